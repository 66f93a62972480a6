"""Models on the hub, here a server on localhost that answers as the hub does."""

import base64
import builtins
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

import ddim
from ddim.cli import main
from ddim.errors import UserError
from ddim.interop import hub
from ddim.interop.card import card as make_card

constants = pytest.importorskip("huggingface_hub.constants")
SHA = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    """The few answers of the hub's API that a download and an upload need; `files` is one repository, user/name."""

    files: dict[str, bytes]
    asked: list[str]

    def answer(self, body, status=200, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if path.startswith("/api/models/user/name/tree/"):
            sizes = {name: len(body) for name, body in self.files.items()}
            self.answer([{"type": "file", "path": n, "size": size, "oid": n} for n, size in sizes.items()])
        elif path.startswith("/api/models/user/name"):
            siblings = [{"rfilename": name} for name in self.files]
            self.answer({"id": "user/name", "sha": SHA, "siblings": siblings, "private": False})
        elif path.startswith(f"/user/name/resolve/{SHA}/") and path.split(SHA + "/")[1] in self.files:
            body = self.files[path.split(SHA + "/")[1]]
            self.answer(body, ETag=f'"{hash(body)}"', X_Repo_Commit=SHA)
        else:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if self.headers["Authorization"] != "Bearer hf_right":
            self.answer({"error": "Invalid credentials"}, 401)
        elif path == "/api/repos/create":
            self.answer({"url": "https://huggingface.co/user/name", "name": "user/name"})
        elif path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": "https://huggingface.co/user/name/commit/1", "commitOid": SHA, "success": True})
        else:
            self.answer({"errors": [], "warnings": []})  # of the card's head

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A hub with one empty repository, which huggingface_hub takes for the real one."""
    handler = type("Own", (Handler,), {"files": {}, "asked": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    monkeypatch.chdir(tmp_path)
    yield handler
    http.shutdown()
    thread.join()
    http.server_close()


def test_what_is_pushed_is_loaded(server, model, tmp_path, capsys):
    recipe = {"data": "/home/somebody/photos", "plan": {"label_dropout": 0.1}}
    ddim.model_io.save(model, tmp_path / "run", recipe=recipe)
    main(["push", "run", "user/name", "--license", "mit"])
    assert capsys.readouterr().out == "The model is at https://huggingface.co/user/name/commit/1.\n"
    assert set(server.files) >= {"README.md", "config.json", "model.safetensors", "samples.png"}
    assert b"somebody" not in b"".join(server.files.values())
    loaded = ddim.load("user/name", backend="torch")
    assert torch.equal(loaded.sample(2, steps=3, progress=False), model.sample(2, steps=3, progress=False))
    server.asked.clear()
    ddim.load("hf:user/name@main")
    assert not any("/resolve/" in path and path.endswith(".safetensors") for path in server.asked)  # it is in the cache


def test_the_card(model, tmp_path):
    ddim.model_io.save(model, tmp_path / "run", recipe={"data": "mnist"})
    hub.write_files(tmp_path / "run", tmp_path / "card", "user/name")
    text = (tmp_path / "card/README.md").read_text(encoding="utf-8")
    head, _, body = text.removeprefix("---\n").partition("---\n")
    assert 'library_name: "ddim"' in head
    assert "license" not in head
    parameters = sum(one.numel() for one in model.parameters())
    for said in (
        "# user/name",
        "![Samples](samples.png)",
        "*64 samples, unipc, log-snr, 20 steps, seed 0, not selected.*",
        f"unet, {parameters:,} parameters, predicts eps",
        "| data | mnist |",
        "| licence | not stated: ask the author before you use the model |",
        'ddim.load("user/name")',
        "Not measured for these weights.",
    ):
        assert said in body
    results = tmp_path / "run/results/evaluation.json"
    results.parent.mkdir()
    metric = {"value": 12.345, "low": 11.0, "high": 13.0, "floor": 1.5, "floor_low": None, "floor_high": None}
    about = {"sampling": "unipc", "count": 500, "extractor": "pixels | mean", "metrics": {"frechet": metric, "x": {}}}
    for weights, row in (("other", ""), (ddim.model_io.fingerprint(tmp_path / "run"), "12.35 (11 to 13) | 1.5 |")):
        results.write_text(json.dumps({"weights": weights, **about}))
        card = make_card(tmp_path / "run", "user/name", 1, "mit", None)
        assert (f"| Fréchet distance | {row}" in card) == bool(row)
    assert "unipc; 500 images; extractor pixels / mean." in card
    assert "samples.png" not in card
    assert 'license: "mit"' in card


@pytest.mark.parametrize("pickled", [False, True])
def test_a_folder_of_diffusers_on_the_hub(server, tmp_path, pickled):
    network = ddim.nets.build("unet2d", 3, "tiny")
    ours = ddim.Denoiser(network, ddim.schedule.linear(), shape=(3, 8, 8), indexed=True)
    ddim.interop.to_diffusers(ours, tmp_path / "folder")
    files = [path for path in (tmp_path / "folder").rglob("*") if path.is_file()]
    server.files |= {path.relative_to(tmp_path / "folder").as_posix(): path.read_bytes() for path in files}
    server.files["training.log"] = b"not asked for"
    torch.save(network.state_dict(), tmp_path / "weights.bin")
    server.files["unet/diffusion_pytorch_model.bin"] = (tmp_path / "weights.bin").read_bytes()
    if pickled:
        del server.files["unet/diffusion_pytorch_model.safetensors"]
    model = ddim.load("user/name", backend="torch")
    assert torch.equal(model.network.state_dict()["conv_in.weight"], network.state_dict()["conv_in.weight"])
    fetched = {path.rpartition(".")[2] for path in server.asked if "/resolve/" in path}
    assert fetched == {"json", "bin" if pickled else "safetensors"}


def test_what_the_hub_does_not_have(server, monkeypatch):
    with pytest.raises(UserError, match="There is no folder user/other, and the hub gives no model user/other"):
        ddim.load("user/other")
    server.files["model.gguf"] = b""
    with pytest.raises(UserError, match="user/name of the hub holds no weights that ddim reads"):
        ddim.load("user/name")


def test_an_upload_that_is_refused(server, run_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(
        UserError, match=r"The hub refused the upload to user/name .*check the name, the network and HF_"
    ):
        hub.push(run_folder, "user/name")
    assert server.files == {}
    for name in ("name", "a/b/c", "user/name@main", "../name"):
        with pytest.raises(UserError, match="A model of the hub is called user/name; got"):
            hub.push(run_folder, name)


def test_names_that_are_paths_and_names_that_are_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("mnist", "./a/b", "a/b/c", "/a/b", "runs/a", "../a", "hf:a", "~/a", tmp_path / "user/name", 3):
        assert not hub.is_id(name), name
    for name in ("user/name", "hf:runs/a", "user/na-me.2@v1.0"):
        assert hub.is_id(name), name
    with pytest.raises(UserError, match="There is no run at runs/a"):
        ddim.load("runs/a")


def test_without_the_library(monkeypatch, run_folder):
    imported = builtins.__import__

    def without(name, *rest):
        if name == "huggingface_hub":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r'There is no folder user/name, .* pip install "ddim\[hub\]"'):
        ddim.load("user/name")
    with pytest.raises(UserError, match=r'To push a model ddim needs one more library; pip install "ddim\[hub\]"'):
        hub.push(run_folder, "user/name")


def test_push_shows_the_files_first(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["push", "run", "user/name", "--out", "card"])
    assert {path.name for path in (tmp_path / "card").iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "samples.png")
    }
    with pytest.raises(SystemExit):
        main(["push", "run", "user/name", "--out", "card"])
    assert "card is not empty" in capsys.readouterr().err
