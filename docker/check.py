"""Builds an image of the server and holds it to what is said of it. `make docker` runs this.

It needs a Docker engine, and exits non-zero where there is none and where anything disagrees.
The image and its bill of materials, build/docker/<variant>.cdx.json, are there afterwards.
"""

import asyncio
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import engine
import image
import numpy as np
import sigmax
from engine import Container, docker
from sigmax_models import networks
from sigmax_models.cli import train_main
from support import files
from support.certificates import Authority
from support.drain import Caller, load
from support.wire import Tensor, classify_request

import demo

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build/docker"
GOAL = {"cpu": 200e6, "gpu": 3e9}  # bytes
CONNECTIONS = 8
TEXTS = ["CAFÉ Menu", "Rally serve SERVE", "none of them"]
SMALL = ["--cpus=0.5", "--memory=128m", "--memory-swap=128m"]


def main(variant: str) -> int:
    """Build and check one variant, `cpu` or `gpu`; returns the exit code."""
    tag = "sigmax:latest" if variant == "cpu" else f"sigmax:{variant}"
    OUT.mkdir(parents=True, exist_ok=True)
    demo.heading("Build")
    build(variant, tag)
    demo.heading("Layers")
    wrong = check_layers(variant, tag)
    wrong += check_running(tag) + check_texts(tag) + check_secured(tag)
    if variant == "gpu":
        print("\nNot asked on a GPU: there need be none where images are built.")
    for fault in wrong:
        print(f"DISAGREES: {fault}")
    if not wrong:
        options = f"{'--gpus all ' if variant == 'gpu' else ''}-p 8001:8001"
        options += f" -v {demo.REPOSITORY}:/models:ro"
        print(f"\nEverything agrees. To serve:\n\n    docker run {options} {tag}")
    return 1 if wrong else 0


def build(variant: str, tag: str) -> None:
    """Build the image of this commit."""
    cargo = tomllib.loads((ROOT / "server/Cargo.toml").read_text())
    version = cargo["workspace"]["package"]["version"]
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    file = "Dockerfile" if variant == "cpu" else f"Dockerfile.{variant}"
    labels = [f"--build-arg=VERSION={version}", f"--build-arg=COMMIT={commit}"]
    start = time.monotonic()
    docker("build", "--quiet", f"--file={ROOT / 'docker' / file}", f"--tag={tag}", *labels, ROOT)
    print(f"{tag}, version {version}, commit {commit}: {time.monotonic() - start:.0f} s")


def check_layers(variant: str, tag: str) -> list[str]:
    """Print every layer's size and write the bill of materials; returns what is wrong."""
    with tempfile.TemporaryDirectory(dir=OUT) as scratch:
        layers = image.layers(tag, Path(scratch))
    layers = [layer for layer in layers if layer.files]  # some only make a folder
    size = sum(layer.size for layer in layers)
    rows = [(each.name, f"{each.size / 1e6:.1f} MB", image.biggest(each)) for each in layers]
    demo.table(("layer", "size", "biggest file"), [*rows, ("total", f"{size / 1e6:.1f} MB", "")])
    bill = OUT / f"{variant}.cdx.json"
    config = engine.inspect(tag)["Config"]
    version = config["Labels"]["org.opencontainers.image.version"]
    document = image.bill(tag.partition(":")[0], version, layers)
    bill.write_text(json.dumps(document, indent=1))
    print(f"  {len(document['components'])} components in {demo.short(bill)}")
    print(f"  environment: {' '.join(config['Env'])}")
    wrong = [f"{layer.name}: {fault}" for layer in layers for fault in layer.faults]
    if size >= GOAL[variant]:
        wrong.append(f"the image has {size / 1e6:.0f} MB, the goal is {GOAL[variant] / 1e6:.0f}")
    return wrong


def check_running(tag: str) -> list[str]:
    """Serve all networks, locked down, and as a small container; returns what is wrong."""
    if not all(each.model_path(demo.REPOSITORY).exists() for each in networks.all_networks()):
        demo.heading("Train")
        train_main(["--repository", str(demo.REPOSITORY)])
    with engine.running(tag, demo.REPOSITORY, "/models") as container:
        demo.heading(f"Serve, with {' '.join(engine.LOCKED_DOWN)}")
        start(container)
        wrong = check_confinement(container) + check_doctor(container)
        demo.heading("Ask all networks through the published port")
        wrong += ask(container.address(8001))
        demo.heading("SIGTERM under load")
        wrong += drain(container)
    with engine.running(tag, demo.REPOSITORY / "sequential", "/models/sequential", SMALL) as small:
        demo.heading(f"Serve one network, with {' '.join(SMALL)}")
        start(small)
        used = docker("stats", "--no-stream", "--format={{.MemUsage}}", small.name)
        print(f"  memory in use: {used}")
        with sigmax.Client(small.address(8001), timeout=60) as client:
            wrong += demo.ask(client, networks.get("sequential"))
        if code := small.stop():
            wrong.append(f"a small container ended with exit code {code}:\n{small.log()}")
    return wrong


def check_texts(tag: str) -> list[str]:
    """Serve models of texts, which need a locale of the image; returns what is wrong."""
    repository = OUT / "texts"
    shutil.rmtree(repository, ignore_errors=True)
    models = {"default": files.bag_of_words(), "named": files.bag_of_words(locale="en_US")}
    for name, model in models.items():
        files.save(model, repository, name)
    expected = np.array([_probabilities(text) for text in TEXTS])
    wrong = []
    with engine.running(tag, repository, "/models") as container:
        demo.heading("Serve models of texts")
        start(container)
        with sigmax.Client(container.address(8001), timeout=60) as client:
            for name in models:
                result = client.classify(name, [[text] for text in TEXTS])
                print(f"  {name}: {', '.join(map(str, result.labels))}")
                if not np.allclose(result.probabilities, expected, rtol=1e-5):
                    wrong.append(f"{name}: expected {expected}, got {result.probabilities}")
    return wrong


def _probabilities(text: str) -> list[float]:
    """What `files.bag_of_words` is to answer: the softmax of its words' weights."""
    known = [files.WORDS[word] for word in text.lower().split() if word in files.WORDS]
    parts = [math.exp(sum(weights[label] for weights in known)) for label in (0, 1)]
    return [part / sum(parts) for part in parts]


def check_secured(tag: str) -> list[str]:
    """Serve over TLS to clients with certificates, with both ports; returns what is wrong."""
    authority = Authority(OUT / "secrets")
    server, caller = authority.issue(), authority.issue("caller.example")
    settings = {
        "SIGMAX_TLS_CERTIFICATE": server.certificate,
        "SIGMAX_TLS_KEY": server.key,
        "SIGMAX_TLS_CLIENT_CA": authority.path,
    }
    options = [f"--env={name}=/secrets/{file.name}" for name, file in settings.items()]
    options += [f"--volume={authority.folder}:/secrets:ro", "--env=SIGMAX_HTTP_TLS=true"]
    model = demo.REPOSITORY / "sequential"
    with engine.running(tag, model, "/models/sequential", options) as container:
        demo.heading("Serve over TLS, to clients with certificates")
        start(container)
        tls = sigmax.Tls(ca=authority.path, certificate=caller.certificate, key=caller.key)
        with sigmax.Client(container.address(8001), tls=tls, timeout=60) as client:
            wrong = demo.ask(client, networks.get("sequential"))
        if "--insecure" in container.log():
            wrong.append(f"a server with TLS and identity warns of none:\n{container.log()}")
    return wrong


def start(container: Container) -> None:
    """Wait until the image's health check is content, and show what was printed."""
    begin = time.monotonic()
    container.wait_until_healthy()
    print(container.log())
    print(f"  healthy after {time.monotonic() - begin:.1f} s")


def check_confinement(container: Container) -> list[str]:
    """Look at the server from inside its container; returns what it may do and should not."""
    code = "print(open('/proc/1/status').read())"
    status = docker("exec", container.name, "python3.11", "-c", code)
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    wrong = []
    for name, expected in {
        "Uid": "\t".join(["65532"] * 4),
        "Gid": "\t".join(["65532"] * 4),
        "CapEff": "0" * 16,
        "CapPrm": "0" * 16,
        "NoNewPrivs": "1",
    }.items():
        print(f"  {name} {facts[name].split()[0]}")
        if facts[name] != expected:
            wrong.append(f"{name}: expected {expected!r}, got {facts[name]!r}")
    for folder in ("/", "/tmp", "/models", "/home/nonroot"):
        command = ["docker", "exec", container.name, "python3.11", "-c"]
        done = subprocess.run(
            [*command, f"open('{folder}/x', 'w')"], capture_output=True, text=True
        )
        print(f"  a file in {folder}: {done.stderr.splitlines()[-1] if done.stderr else 'written'}")
        if done.returncode == 0:
            wrong.append(f"a file was written to {folder}")
    return wrong


def check_doctor(container: Container) -> list[str]:
    """Have it say what there is to run models on; returns what is wrong."""
    command = ["docker", "exec", container.name, "python3.11", "-m", "sigmax_server.doctor"]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout)
    return (
        [] if done.returncode == 0 else [f"the doctor ended with {done.returncode}: {done.stderr}"]
    )


def ask(address: str) -> list[str]:
    """Ask every network what no training has seen; returns what is wrong."""
    with sigmax.Client(address, timeout=60) as client:
        classifiers = [each for each in networks.all_networks() if each.declaration.task]
        answers = [demo.ask(client, network) for network in classifiers]
    return [fault for answer in answers for fault in answer] + demo.ask_linear(address)


def drain(container: Container) -> list[str]:
    """End the server while many ask it; returns what is wrong."""
    network = networks.get("sequential")
    tensor = Tensor.of(network.input, np.zeros((1, 10)))
    message = classify_request(network.name, tensor).SerializeToString()
    path = "/sigmax.v1.ClassifierService/Classify"
    callers = [Caller(path, message, patient=False, enough=100) for _ in range(CONNECTIONS)]
    begin = time.monotonic()
    done = asyncio.run(load(container.address(8001), callers, container.stop))
    print(f"  {done}; {time.monotonic() - begin:.1f} s in all")
    print(f"  {container.log().splitlines()[-1]}")
    wrong = []
    if not done.pending:
        wrong.append("nothing was under way at the signal")
    if done.answered != done.accepted:
        wrong.append(f"{done.accepted} requests were accepted, {done.answered} answered")
    if done.code != 0:
        wrong.append(f"the server ended with exit code {done.code}, expected 0")
    return wrong


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
