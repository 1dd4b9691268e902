"""Pushing a trained model to the Hugging Face hub: tried before a run, done after it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import HFValidationError, validate_repo_id

from dpo_lab.errors import InputError


def check_hub(repo_id: str) -> None:
    """Raise `InputError` where a push could not work: a name that is none, or no login."""
    try:
        validate_repo_id(repo_id)
        HfApi().whoami()
    except HFValidationError as error:
        raise InputError(f"hub_model_id {repo_id!r}: {error}") from error
    except LocalTokenNotFoundError as error:
        raise InputError("hub_model_id: not logged in to the hub (hf auth login)") from error
    except (HfHubHTTPError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"hub_model_id: the hub does not answer ({first})") from error


def push(folder: Path, repo_id: str) -> str:
    """Upload a model folder, making a private repository where there is none; its address."""
    api = HfApi()
    address = api.create_repo(repo_id, private=True, exist_ok=True)
    api.upload_folder(folder_path=str(folder), repo_id=repo_id, commit_message="dpo-lab train")
    return str(address)
