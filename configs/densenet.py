"""The paper's likely baseline: DenseNet-121 cut after two dense blocks.

Question: how much of the localization comes from the map's resolution alone?
          28x28 cells of 512 channels at 224 pixels, as many as the ResNet-50
          of configs/baseline.py:nih has by dilation; 7x7 in the whole network.
Command:  python main.py --config=configs/densenet.py:nih \\
            --config.data.dir=/data/ChestX-ray14 \\
            --config.model.init_from=densenet121.pth
          and robust: --config.attack.objective=adversarial
            --workdir=runs/nih_densenet_robust
Cost:     1.3 M parameters, 3.8 GFLOP forward for a film of 224 pixels (the
          dilated ResNet-50: 24 M, 36 GFLOP). On phantoms as much as the
          baseline's ResNet-18: 0.08 GFLOP.
Expected: no figure of the paper can stand here: its text states neither the
          network nor the recipe. These are the parts that the public code of
          the same group has: ImageNet weights, the batch's W-CEL, learning
          rate 1e-3, weight decay 1e-4, batches of 32, no flip.

`densenet121.pth` is torchvision's file; the blocks that are cut off are left
out. Without `init_from` the network starts from random weights.
"""

from configs import default


def get_config(preset: str = 'phantom'):
  config = default.get_config(preset)
  config.name = config.name.replace('baseline', 'densenet')
  config.model.arch = 'densenet121'
  config.model.num_stages = 2
  config.model.output_stride = 8
  if preset == 'nih':
    config.train.batch_size = 32
  return config
