"""The model card, `README.md` of every saved model, from plain data.

    configuration, data counts, metrics ─ model_card() ─► README.md ─ read_card_facts() ─► the same

A card carries the facts it was made of in a comment at its end, so that an export of a trained
folder can tell again how it was trained. Paths are cut to their last part and secrets are left out
before anything is written.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from string import Template
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from jina.training.yaml_loading import looks_secret

TEMPLATES = Path(__file__).parent / "templates"
BASE_MODEL = "jinaai/jina-embeddings-v4"
OFFICIAL_SIZE = 2048  # numbers of a single vector: whatever derives from it has them
CARD = "README.md"
SECRET = re.compile(r"(^|_)(key|credentials?)$", re.IGNORECASE)  # beside what looks secret
FACTS = re.compile(r"<!-- smartembed: (\{.*\}) -->")
FACT_NAMES = ("configuration", "data", "metrics", "base")
LICENCE = re.compile(r"[\w.+-]+")  # an identifier of the hub
UNKNOWN_BASE = {"name": "another-checkpoint", "licence": "unknown"}
LIBRARIES = {
    "official": "transformers",
    "merged": "transformers",
    "sentence-transformers": "sentence-transformers",
    "multi-vector": "sentence-transformers",
}


def model_card(
    configuration: Mapping[str, Any],
    data: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    base: Mapping[str, Any] | None = None,
    *,
    loading: str = "",
    format_: str = "official",
    parity: Sequence[str] = (),
) -> str:
    """Compose a model card.

    Args:
        configuration: settings of the training, nested as they are; empty if unknown.
        data: counts by name, such as `{"rows to train on": 679}`.
        metrics: by name, `before` (optional) and `after` the training, each the value and the two
            ends of its 95 % interval.
        base: what `read_base` says of the checkpoint it derives from; if empty, the official one.
        loading: Markdown on how to load this folder.
        format_: which of the export formats the folder has.
        parity: lines of the parity report of an export.

    Returns:
        Markdown with a metadata block that the hub reads.
    """
    configuration, data, metrics, base = (
        without_private(part or {}) for part in (configuration, data, metrics, base)
    )
    if base:
        base = {**UNKNOWN_BASE, **base}  # a name that looks secret was left out
    facts = dict(zip(FACT_NAMES, (configuration, data, metrics, base), strict=True))
    comment = json.dumps(facts, ensure_ascii=False).replace(">", "\\u003e")
    parts = [
        f"---\n{_metadata(metrics, base, format_)}\n---",
        f"# {base.get('name', 'Jina Embeddings V4')}{', fine-tuned' if configuration else ''}\n\n"
        f"Embeds texts and images in one space. Made from {_origin(base)} with SmartEmbed.",
        _licence(base),
        *_section("How to load it", loading),
        *_section("Parity with the checkpoint it was exported from", "\n".join(parity)),
        *_section("Results", _results(metrics)),
        *_section("Data", _table(("what", "count"), data.items())),
        *_section("Configuration", _as_yaml(configuration)),
        f"<!-- smartembed: {comment} -->",
    ]
    return "\n\n".join(parts) + "\n"


def read_card_facts(folder: Path) -> dict[str, Any]:
    """Return configuration, data, metrics and base of a folder's card; empty if it tells none."""
    file = folder / CARD
    found = FACTS.findall(file.read_text(encoding="utf-8")) if file.is_file() else []
    try:
        facts = json.loads(found[-1]) if found else {}
    except ValueError:
        facts = {}  # a card somebody wrote by hand
    return {name: facts[name] if isinstance(facts.get(name), dict) else {} for name in FACT_NAMES}


def read_base(folder: Path, size: int) -> dict[str, str]:
    """Return name and licence of a checkpoint that isn't, and can't derive from, the official one.

    Args:
        folder: of the checkpoint; its card's metadata may name a licence.
        size: numbers of its single vectors.

    Returns:
        `name` and `licence`; nothing if they are as many as the official one has.
    """
    if size == OFFICIAL_SIZE:
        return {}
    file = folder / CARD
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    try:
        licence = ModelCard(text, ignore_metadata_errors=True).data.license
    except (ValueError, yaml.YAMLError):
        licence = None  # a card somebody wrote by hand
    is_known = isinstance(licence, str) and LICENCE.fullmatch(licence)
    return {
        "name": folder.resolve().name,
        "licence": licence if is_known else UNKNOWN_BASE["licence"],
    }


def template(name: str, **values: str) -> str:
    """Return a Markdown template with its `${…}` filled in."""
    text = (TEMPLATES / f"{name}.md").read_text(encoding="utf-8")
    return Template(text).substitute(values).rstrip()


def _origin(base: Mapping[str, str]) -> str:
    """Return what names the base, linked if it is the official one."""
    return f"`{base['name']}`" if base else f"[{BASE_MODEL}](https://huggingface.co/{BASE_MODEL})"


def _licence(base: Mapping[str, str]) -> str:
    if base:
        return template("licence_other", base=_origin(base), licence=base["licence"])
    return template("licence", base=_origin(base))


def _metadata(metrics: Mapping[str, Any], base: Mapping[str, str], format_: str) -> str:
    """Return the YAML block; results appear in it where there are any."""
    kind = [] if format_ == "official" else [format_]
    name = f"{base.get('name', 'jina-embeddings-v4')}-finetuned"
    terms = (
        {"license": base["licence"]}
        if base
        else {
            "base_model": BASE_MODEL,
            "license": "other",
            "license_name": "non-commercial-as-the-base-model",
            "license_link": f"https://huggingface.co/{BASE_MODEL}",
        }
    )
    results = [
        EvalResult(
            task_type="retrieval",
            dataset_type="held-out-rows",
            dataset_name="held-out rows",
            metric_type=metric,
            metric_value=values["after"][0],
        )
        for metric, values in metrics.items()
    ]
    return ModelCardData(
        library_name=LIBRARIES[format_],
        pipeline_tag="visual-document-retrieval",
        tags=["jina-embeddings-v4", "multimodal-embedding", "feature-extraction", *kind],
        **terms,
        **({"model_name": name, "eval_results": results} if results else {}),
    ).to_yaml()


def _results(metrics: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    rows = [
        (name, *(_interval(values.get(when)) for when in ("before", "after")))
        for name, values in metrics.items()
    ]
    return _table(("metric (95 % interval)", "before", "after"), rows)


def _interval(values: Sequence[float] | None) -> str:
    if values is None:
        return "–"
    value, low, high = values
    return f"{value:.4f} ({low:.4f} to {high:.4f})"


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    if not lines:
        return ""
    rule = "|".join("---" for _ in head)
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {line} |" for line in lines)])


def _as_yaml(configuration: Mapping[str, Any]) -> str:
    if not configuration:
        return ""
    dumped = yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True)
    return f"```yaml\n{dumped}```"


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def without_private(value: Any) -> Any:
    """Return plain data without secrets, and with paths cut to their last part."""
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if not _is_secret(str(k), v)}
        return {str(k): without_private(v) for k, v in kept.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [without_private(item) for item in value if not _is_secret("", item)]
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    return PureWindowsPath(str(value)).name or str(value)[:1]


def _is_secret(name: str, value: Any) -> bool:
    """Tell by the name of a setting, or by its text; groups are looked into one by one."""
    text = "" if isinstance(value, (Mapping, list, tuple, set, frozenset)) else value
    return bool(SECRET.search(name)) or looks_secret(name, text)
