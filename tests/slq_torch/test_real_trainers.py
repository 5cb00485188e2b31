"""The callbacks in the trainers that they are made for, where those are installed."""

import pytest
import slq_torch
import torch
from torch import nn
from torch.nn.functional import cross_entropy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # of other libraries
]
QUICK = {"top": 2, "energy": 3, "probes": 1, "steps": 4}
STEPS = 5


def samples():
    """Return ten samples, two to a batch."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2 * STEPS, 4, generator=generator), torch.arange(2 * STEPS) % 3


def test_the_trainer_of_lightning_makes_records(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = nn.Linear(4, 3)

        def training_step(self, batch, index):
            return cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.25)

    x, y = samples()
    module = Module()
    recorder = slq_torch.Recorder(
        module, lambda m, batch: cross_entropy(m.network(batch[0]), batch[1]), (x, y), every=2, **QUICK
    )
    trainer = lightning.Trainer(
        max_epochs=1, callbacks=[slq_torch.LightningCallback(recorder)], logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=2))

    assert recorder.history.steps.tolist() == [2, 4]
    assert recorder.history.scalars["lr"].tolist() == [0.25, 0.25]
    assert (recorder.history.scalars["loss"] > 0).all()
    assert all(note == "" for note in recorder.history.notes)


def test_the_trainer_of_hugging_face_makes_records(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = nn.Linear(4, 3)

        def forward(self, x, labels):
            output = self.network(x)
            return {"loss": cross_entropy(output, labels), "logits": output}

    x, y = samples()
    model = Model()
    recorder = slq_torch.Recorder(model, lambda m, batch: m(**batch)["loss"], {"x": x, "labels": y}, every=2, **QUICK)
    arguments = transformers.TrainingArguments(
        output_dir=tmp_path, num_train_epochs=1, per_device_train_batch_size=2, logging_steps=1, save_strategy="no",
        report_to=[], use_cpu=True, disable_tqdm=True, lr_scheduler_type="constant", learning_rate=0.25,
    )  # fmt: skip
    data = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    callbacks = [slq_torch.HuggingFaceCallback(recorder)]
    transformers.Trainer(model, arguments, train_dataset=data, callbacks=callbacks).train()

    assert recorder.history.steps.tolist() == [2, 4]
    assert recorder.history.scalars["lr"].tolist() == [0.25, 0.25]
    assert all(note == "" for note in recorder.history.notes)
