"""What a process uses: the memory of its host and of its devices."""

import jax

from input_pipeline import memory


def gibibytes() -> dict[str, float]:
  """{'host_gib', 'device_gib'}: memory held now, and the most that a local
  device has held. A CPU does not tell the second: its memory is the host's."""
  used = {'host_gib': memory.held() / 2**30}
  peaks = [
    (device.memory_stats() or {}).get('peak_bytes_in_use')
    for device in jax.local_devices()
  ]
  peaks = [peak for peak in peaks if peak is not None]
  if peaks:
    used['device_gib'] = max(peaks) / 2**30
  return used
