"""What config.model.init_from says -> a local file, and what is known of it.

FILE                      a weights file, or the folder of an export
shipped://NAME            a network that comes with the code
hf://OWNER/NAME[/FILE]    a file of the Hugging Face hub
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cxr import files
from cxr.shipped import networks

HUB = 'hf://'
# What a config.json has that --mode=export wrote; other programs write others.
_OURS = ('arch', 'num_filters', 'findings', 'input')
_ENDINGS = ('.safetensors', '.pt', '.pth', '.bin')


class Origin(NamedTuple):
  """Where weights come from."""

  stated: str  # as config.model.init_from has it
  path: str  # of the local file
  # The config.json that --mode=export wrote beside the file; {} for others.
  exported: Mapping[str, Any] = {}

  @property
  def name(self) -> str:
    """The weights as a page names them, without the folders of a machine.

    Examples:
      >>> Origin('hf://owner/name', '/cache/x/model.safetensors').name
      'hf://owner/name'
      >>> Origin('runs/a/export', 'runs/a/export/model.safetensors').name
      'export/model.safetensors'
      >>> Origin('/data/w.pt', '/data/w.pt').name
      'w.pt'
    """
    if '://' in self.stated:
      return self.stated
    folder, file = os.path.split(self.path)
    if file == networks.WEIGHTS:  # as every export calls them
      return os.path.join(os.path.basename(os.path.abspath(folder)), file)
    return file

  @property
  def sha256(self) -> str:
    """The hash of the file."""
    return files.sha256(self.path)


def find(stated: str, seed: int) -> Origin:
  """Finds the weights that config.model.init_from names.

  Args:
    stated: a file, a folder that --mode=export wrote, shipped://NAME, or
      hf://OWNER/NAME[/FILE]. Without a FILE it is model.safetensors, else the
      only weights file that the repository has.
    seed: of the run, for which {seed} stands in `stated`. Runs that start from
      weights of a seed each have one config so, and a study takes them for one
      group.

  Raises:
    FileNotFoundError: there is no such file, or the folder has no weights.
    ValueError: no network of that name comes with the code, the hub cannot be
      used, or a config.json beside the weights is damaged.
  """
  stated = stated.replace('{seed}', str(seed))
  if stated.startswith(HUB):
    return _from_hub(stated)
  path = networks.folder(os.path.expanduser(stated))
  if os.path.isdir(path):
    path = os.path.join(path, networks.WEIGHTS)
    if not os.path.isfile(path):
      raise FileNotFoundError(
        f'No {networks.WEIGHTS} in config.model.init_from ({stated}); give a '
        'weights file, or the folder that --mode=export wrote.'
      )
  if not os.path.isfile(path):
    raise FileNotFoundError(
      f'No weights file at {stated} (config.model.init_from).'
    )
  beside = os.path.join(os.path.dirname(path), 'config.json')
  exported = {}
  # Another file of the folder is not what its config.json describes.
  if os.path.basename(path) == networks.WEIGHTS and os.path.isfile(beside):
    exported = _exported(beside)
  return Origin(stated, path, exported)


def _exported(path: str) -> dict[str, Any]:
  """What --mode=export says of its weights; {} where another program wrote."""
  described = files.read_json(path)
  ours = isinstance(described, dict) and all(key in described for key in _OURS)
  return described if ours else {}


def _from_hub(stated: str) -> Origin:
  owner, _, rest = stated.removeprefix(HUB).partition('/')
  name, _, file = rest.partition('/')
  if not (owner and name):
    raise ValueError(
      f'config.model.init_from ({stated}) must be hf://OWNER/NAME or '
      'hf://OWNER/NAME/FILE.'
    )
  try:
    import huggingface_hub
  except ImportError:
    raise ValueError(
      f'config.model.init_from ({stated}) needs huggingface_hub, which is not '
      'installed: pip install huggingface_hub, or download the file and give '
      'its path.'
    ) from None
  repository = f'{owner}/{name}'
  try:
    listed = [file] if file else huggingface_hub.list_repo_files(repository)
    file = file or _only_weights(stated, listed)
    path = huggingface_hub.hf_hub_download(repository, file)
    if os.path.basename(file) != networks.WEIGHTS:
      return Origin(stated, path)
    described = file.removesuffix(networks.WEIGHTS) + 'config.json'
    if huggingface_hub.file_exists(repository, described):
      config = huggingface_hub.hf_hub_download(repository, described)
      return Origin(stated, path, _exported(config))
    return Origin(stated, path)
  except _Refused as e:
    raise ValueError(str(e)) from None
  except ImportError as e:
    # It imports what it needs when that is asked of it.
    raise ValueError(
      f'config.model.init_from ({stated}) needs huggingface_hub, which is not '
      f'whole here ({e}): pip install --upgrade huggingface_hub, or download '
      'the file and give its path.'
    ) from None
  except Exception as e:
    # The hub's own kinds, and those of whatever carries its requests.
    reason = (str(e).strip().splitlines() or [''])[0][:200]
    raise ValueError(
      f'config.model.init_from ({stated}) cannot be fetched from the Hugging '
      f'Face hub ({type(e).__name__}: {reason}); see that the name is right '
      'and the hub in reach, or download the file elsewhere and give its path.'
    ) from e


class _Refused(Exception):
  """What the repository holds is not one weights file."""


def _only_weights(stated: str, listed: Sequence[str]) -> str:
  if networks.WEIGHTS in listed:
    return networks.WEIGHTS
  weights = [name for name in listed if name.endswith(_ENDINGS)]
  if len(weights) != 1:
    names = ', '.join(weights[:6]) or 'none'
    raise _Refused(
      f'config.model.init_from ({stated}) must name one weights file of the '
      f'repository, which has {len(weights)} ({names}): {stated}/FILE.'
    )
  return weights[0]
