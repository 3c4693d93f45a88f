"""Fine-tune networks with few numbers: adapters of their weights (needs the extra ``torch``).

:func:`add_adapter` puts an adapter into the layers of any network; from then on only it is
trained. A name is imported on first use.
"""

from sklr.utils._imports import lazy_names

# Public name -> the file that holds it.
_HOMES = {
    "BlockLoRA": "_low_rank",
    "FLoRA": "_tucker",
    "LoLDU": "_fixed_bases",
    "LoRA": "_low_rank",
    "SVFit": "_fixed_bases",
    "adapter_param_groups": "_trained",
    "adapter_parameters": "_trained",
    "adapter_state_dict": "_files",
    "add_adapter": "_functions",
    "disabled_adapter": "_functions",
    "export_peft": "_peft",
    "load_adapter": "_files",
    "load_adapter_state_dict": "_files",
    "merge_adapter": "_functions",
    "parameter_report": "_trained",
    "remove_adapter": "_functions",
    "save_adapter": "_files",
    "set_adapter": "_functions",
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
