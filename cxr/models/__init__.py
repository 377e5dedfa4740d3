"""Networks: films to logits and endpoints; weights from and to other tools."""
