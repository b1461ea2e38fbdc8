"""A pipeline's way from and to folders and the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anytalker.errors import InputError
from anytalker.loading.components import PARTS, find_model, load_components, save_components
from anytalker.loading.quiet import quiet_bars
from anytalker.loading.separator import find_separator
from anytalker.media.video import RunRecord
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.hub import CARD, downloaded, model_card, push, read_record

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self


class Stored:
    """Loading and saving; a part of `AnyTalkerPipeline`."""

    if TYPE_CHECKING:
        components: dict[str, Any]
        settings: PipelineSettings
        separator_file: Path | None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "tiny",
        *,
        torch_dtype: torch.dtype | None = None,
        dtype: torch.dtype | None = None,
        quantization_config: Any = None,
        progress: bool = False,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        **parts: Any,
    ) -> Self:
        """Load a model by its name ("tiny" comes with the package), from a folder or from the hub.

        Args:
            model: "tiny", a folder written by `save_pretrained`, or a repository of the hub, "owner/name", which is
                downloaded unless there is such a folder.
            torch_dtype, dtype: the floating point type of the large parts, by either name; None: float32.
            quantization_config: of diffusers, for the transformer and the text encoder: a `PipelineQuantizationConfig`,
                or one such as `TorchAoConfig` for the transformer.
            progress: show the bars of diffusers and transformers.
            revision, token, cache_dir, local_files_only: of a repository.
            parts: components to take instead of the model's, such as `scheduler`.

        Raises:
            InputError: if there is no such model, its folder lacks something, or there is no such part.
        """
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise InputError(f"There is no option or part {sorted(unknown)[0]!r}; the parts are {', '.join(PARTS)}.")
        kind = {"torch_dtype": torch_dtype or dtype} if torch_dtype or dtype else {}
        names = [name for name in PARTS if name not in parts]
        download = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        model = downloaded(model, **download)
        with quiet_bars(not progress):
            loaded = load_components(model, names=names, quantization_config=quantization_config, **kind)
        pipeline = cls(**loaded | parts)
        pipeline.separator_file = find_separator(find_model(model), pipeline.settings.separator)
        return pipeline

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **options: Any) -> None:
        """Write all components and the settings to a folder that `from_pretrained` reads.

        Args:
            save_directory: the folder.
            push_to_hub: write it to the hub, too; `options` are those of `push_to_hub`, with `repo_id`.

        Raises:
            InputError: see `push_to_hub`.
        """
        with quiet_bars():
            save_components(Path(save_directory), dict(self.components), self.settings)
        if push_to_hub:
            self.push_to_hub(options.pop("repo_id", Path(save_directory).name), **options)

    def push_to_hub(
        self,
        repo_id: str,
        record: RunRecord | Mapping[str, Any] | str | Path | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Write all components, the settings and a card to a repository of the hub, or with a path to a folder.

        Args:
            repo_id: "owner/name", or the path of a folder, beginning with "." or "/".
            record: of a video that the model has made, for the card: `video.record()`, or the file beside an MP4.
            commit_message, private, token, create_pr: as for diffusers' pipelines.

        Returns:
            The address of the commit, or the folder.

        Raises:
            InputError: if the record can't be read, or the hub refuses it.
        """
        known = None if record is None else read_record(record)
        if repo_id.startswith((".", "/")):
            self.save_pretrained(repo_id)
            card = model_card(repo_id, self.settings, known)
            (Path(repo_id) / CARD).write_text(card, encoding="utf-8")
            return repo_id
        options = {"commit_message": commit_message, "private": private, "token": token, "create_pr": create_pr}
        return push(self, repo_id, known, **options)
