"""What clients learn: one file per task, written against one of two seams.

**With torch**, a task is one plain file; there is nothing to inherit and nothing to register.

    CLASS_NAMES = ("idle", "working", "faulty")   # a classifier: accuracy and confusion for free

    def build_model() -> torch.nn.Module
    def load_data(data_dir: Path, client: str, purpose: str) -> Dataset   # of (input, target)
    def loss(outputs, targets) -> Tensor                                  # mean over the batch
    def metrics(outputs, targets) -> dict[str, float]                     # means over the batch

`purpose` is "train" or "evaluate". CLASS_NAMES and metrics may be left out: `loss` is always
reported, and enough for a task that predicts a number. METRIC_NAMES lists what `metrics` returns,
for rounds whose answers are masked (`measures.py`). Begin with a copy of `starter_task`;
`phonewatch` is a real one.

Where all data is in one place, to be shared out among made-up clients, a task defines beside or
instead of `load_data`

    def load_pool(data_dir: Path, purpose: str) -> Pool   # purpose is "train" or "test"

`pool` says what a pool is, `split_data` who holds which of its samples; `mnist_2nn`, `mnist_cnn`
and `har` are benchmarks of that kind.

**Without torch**, a task trains by itself, on float32 arrays that have names.

    def initial_weights(seed: int) -> Weights
    def load_data(data_dir: Path, client: str, purpose: str) -> Any       # as the next two like it
    def train(weights, data, training: Training, seed: int, progress) -> Trained
    def evaluate(weights, data) -> Evaluated

`linear` is an example; `seam` has the types and what each function promises.

A task is named by its module ("learning_tasks.phonewatch") or by its file ("my_task.py"), always by
the owner of the machine that runs it. This is how the parts meet:

    trainer ──▶ loading ──▶ a numpy task ───────────────────────────▶ seam.Task
                       └──▶ torch_training around a torch task ─────▶ seam.Task
                              └─ a client's own files, or its share of a pool
"""
