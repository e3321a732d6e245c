"""A finished run of a tiny model, with texts, file names and settings that mean harm."""

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from jina.data.multimodal_dataset import MultimodalDataset
from jina.retrieval.comparison import Comparison
from jina.retrieval.evaluation_folder import evaluate_to_folder
from jina.retrieval.evaluation_plan import EvaluationSettings, plan_evaluation
from jina.retrieval.report import write_matches
from jina.retrieval.report_page.run_record import AFTER, BEFORE

HOSTILE = "<script>alert('x')</script> {{ 7 * 7 }} \"><img src=http://evil.example/a.png>"
HOSTILE_NAME = "a\"onerror=alert(1) x='<b>.png"
COLOURS = ("red", "green", "blue", "black", "orange", "purple", "cyan", "yellow")


def history_of(steps):
    """What a trainer logs: losses at every step, an evaluation at the first and the last."""
    found = []
    for step in range(1, steps + 1):
        sizes = {f"single_loss_{size}": 1 / step for size in (16, 64)}
        losses = {"contrastive_loss": 4 / step, "single_loss": 2 / step, "multi_loss": 2 / step}
        found.append({"step": step, "grad_norm": 1.0, "learning_rate": 1e-4, **losses, **sizes})
    for step, value in ((0, 0.2), (steps, 0.6)):
        names = ("eval_ndcg@5", "eval_multi_ndcg@5", "eval_dim16_ndcg@5")
        found.append({"step": step, "eval_loss": 3.0, **dict.fromkeys(names, value)})
    return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory, fresh_model):
    """The folder of a run, its rows and its models."""
    home = tmp_path_factory.mktemp("run")
    rows = []
    for place, colour in enumerate(COLOURS):
        name = HOSTILE_NAME if place == 0 else f"{colour}.png"
        Image.effect_noise((112, 84), 40).convert("RGB").save(home / name)
        negatives = [f"{COLOURS[place - 1]}.png"] if place > 1 else []
        text = HOSTILE if place == 0 else f"a {colour} square"
        rows.append({"query": text, "positive_image": name, "negative_image": negatives})
    rows[0].pop("negative_image")
    rows[1].pop("negative_image")
    file = home / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    dataset = MultimodalDataset(file)
    settings = EvaluationSettings(vectors=("single", "multi"))
    plan, _ = plan_evaluation(dataset, settings)
    about = {"settings": {"depth": settings.depth}}
    folder, model = home / "out", fresh_model()
    evaluate_to_folder(model, dataset, plan, settings, folder / BEFORE, about=about)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B.retrieval" in name:
                parameter += torch.randn(parameter.shape, generator=draw) * 0.1
    comparison = Comparison.read(folder / BEFORE)
    evaluate_to_folder(
        model, dataset, plan, settings, folder / AFTER, about=about, comparison=comparison
    )
    (folder / "run").mkdir()
    (folder / "run/config.yaml").write_text("data:\n  train: </pre><script>bad()</script>\n")
    policy = {"is_deep": True, "cache_folder": str(home / "cache")}
    place = {"files": [str(file)], "image_base_dir": None, "tasks": [], "policy": policy}
    facts = {"smartembed": "0", "startup": {"Data": [["train", "<i>8 rows</i>"]]}, "rows": place}
    (folder / "run/facts.json").write_text(json.dumps(facts))
    state = {"log_history": history_of(20)}
    (folder / "run/trainer_state.json").write_text(json.dumps(state))
    matches = write_matches(model, folder, dataset)
    return SimpleNamespace(folder=folder, dataset=dataset, model=model, rows=rows, matches=matches)
