"""Models of diffusers, in and out: the same outputs, the same samples, and a sentence for what cannot be the same."""

import json
import warnings
from pathlib import Path
from unittest import mock

import diffusers
import pytest
import torch
from diffusers.pipelines.ddim import pipeline_ddim

import ddim
from ddim import interop, nets, schedule
from ddim.errors import Notice, UserError
from ddim.interop.diffusers import WEIGHTS
from ddim.sampling import Sampling

diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
SMALL = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
DDPM = {
    "downsample_padding": 0,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}
VARIANTS = {
    "defaults": {},
    "ddpm": DDPM,
    "scale-shift": {"resnet_time_scale_shift": "scale_shift", "layers_per_block": 2},
    "scale-shift, norm": {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4},
    "no attention": {"add_attention": False, "down_block_types": ("DownBlock2D",) * 2, "norm_num_groups": 8},
    "other attention": {"down_block_types": ("AttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 16},
    "centred, wide time": {"center_input_sample": True, "time_embedding_dim": 48, "act_fn": "swish"},
    "oblong": {"sample_size": (8, 12), "in_channels": 2, "out_channels": 2},
}


def unet(**changes):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(**{**SMALL, **changes}).eval()


def pipeline_of(folder, network=None, **scheduler):
    """Write a pipeline of diffusers."""
    pipeline = diffusers.DDIMPipeline(network or unet(), diffusers.DDIMScheduler(**scheduler))
    pipeline.save_pretrained(folder)
    return folder


def peer_samples(pipeline, noise, steps=50, clipped=True):
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": steps, "use_clipped_model_output": clipped, "output_type": "pt"}
    with mock.patch.object(pipeline_ddim, "randn_tensor", return_value=noise):
        return 2 * pipeline(len(noise), **options, return_dict=False)[0] - 1


def noise_of(model, count=2, seed=5):
    return ddim.noise.ImageNoise(seed, range(count))(torch.empty(count, *model.shape))


def edit(path: Path, **changes):
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **changes}))


def lively(network):
    """Give zero-initialised layers weights, so that the output depends on every part."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_outputs_of_a_unet2d_model(changes, tmp_path):
    peer = unet(**changes)
    peer.save_pretrained(tmp_path)
    with pytest.warns(Notice, match=r"no scheduler_config.json: .*DDPM's, linear with T = 1000"):
        model = ddim.load(tmp_path)
    x, t = torch.randn(3, *model.shape), torch.tensor([0.0, 7.0, 999.0])
    with torch.no_grad():
        torch.testing.assert_close(model.network(x, t), peer(x, t).sample, rtol=0, atol=1e-5)
    at = model.schedule(torch.tensor([1.0, 8.0, 1000.0]))  # index i is the time i + 1
    torch.testing.assert_close(model(x, at).eps, peer(x, t).sample, rtol=0, atol=1e-5)


def test_classes(tmp_path):
    peer = unet(num_class_embeds=4)
    pipeline_of(tmp_path, peer)
    model = ddim.load(tmp_path)
    assert (model.classes, model.null_class) == (4, False)
    x, t, label = torch.randn(4, 3, 8, 8), torch.tensor([0.0, 7.0, 500.0, 999.0]), torch.arange(4)
    torch.testing.assert_close(model.network(x, t, label), peer(x, t, label).sample, rtol=0, atol=1e-5)


def conditional(**changes):
    torch.manual_seed(0)
    plain = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    network = diffusers.UNet2DConditionModel(**{**SMALL, **plain, "mid_block_type": "UNetMidBlock2D", **changes})
    return network.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {"num_class_embeds": 4, "resnet_time_scale_shift": "scale_shift"},
        {"mid_block_type": None, "flip_sin_to_cos": False, "freq_shift": 1, "layers_per_block": 2},
        {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")},
    ],
    ids=["classes", "no middle", "attention"],
)
@pytest.mark.filterwarnings("ignore:.*no scheduler_config.json")
def test_a_conditional_unet_without_text(changes, tmp_path):
    peer = conditional(**changes)
    peer.save_pretrained(tmp_path)
    model, x, t = ddim.load(tmp_path), torch.randn(3, 3, 8, 8), torch.tensor([0.0, 7.0, 999.0])
    label = () if model.classes is None else (torch.tensor([0, 3, 1]),)
    with torch.no_grad():
        expected = peer(x, t, encoder_hidden_states=None, class_labels=label[0] if label else None).sample
        torch.testing.assert_close(model.network(x, t, *label), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"]}, "has 'CrossAttnDownBlock2D', which reads text"),
        ({"mid_block_type": "UNetMidBlock2DCrossAttn"}, "mid_block_type has 'UNetMidBlock2DCrossAttn', which reads"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type is 'text_time', and ddim reads None"),
        ({"encoder_hid_dim": 3}, "encoder_hid_dim is 3, and ddim reads None"),
        ({"conv_in_kernel": 5}, "conv_in_kernel is 5, and ddim reads 3"),
        ({"flow": 1}, "does not know its field flow = 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no scheduler_config.json")
def test_a_conditional_unet_that_ddim_does_not_have_is_refused_by_its_field(changes, message, tmp_path):
    conditional().save_pretrained(tmp_path)
    edit(tmp_path / "config.json", **changes)
    with pytest.raises(UserError, match=message):
        ddim.load(tmp_path)


SCHEDULERS = {
    "defaults": {},
    "trailing": {"timestep_spacing": "trailing", "steps_offset": 1},
    "scaled linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500},
    "betas": {"trained_betas": [0.001 * i for i in range(1, 101)], "num_train_timesteps": 100},
    "v, zero SNR": {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
    "x0": {"prediction_type": "sample"},
    "unclipped": {"clip_sample": False, "clip_sample_range": 2.0, "beta_end": 0.005},
    "offset": {"steps_offset": 1},
}


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_fifty_steps_from_the_same_noise(scheduler, tmp_path):
    pipeline_of(tmp_path, unet(**DDPM), **scheduler)
    model, peer = ddim.load(tmp_path), diffusers.DDIMPipeline.from_pretrained(tmp_path)
    ours = model.sample(2, seed=5, progress=False)  # the defaults: 50 steps of DDIM
    theirs = peer_samples(peer, noise_of(model), clipped=scheduler.get("clip_sample", True))
    torch.testing.assert_close(ours.clamp(-1, 1), theirs, rtol=0, atol=1e-3)
    assert ours.std() > 0.1


def test_the_scheduler_of_ddpm(tmp_path):
    """The betas of DDPMScheduler's "sigmoid", which DDIMScheduler does not have."""
    scheduler = diffusers.DDPMScheduler(beta_schedule="sigmoid", variance_type="fixed_large")
    diffusers.DDPMPipeline(unet(), scheduler).save_pretrained(tmp_path)
    model = ddim.load(tmp_path)
    torch.testing.assert_close(model.schedule.betas[1:].float(), scheduler.betas, rtol=1e-5, atol=0)
    assert (model.indexed, model.predicts, model.sampling) == (True, "eps", Sampling(50, "ddim", 0.0, "leading"))


def test_pickled_weights_old_names_and_half_precision(tmp_path):
    """google/ddpm-cifar10-32 has its files in one folder, an attention's layers under their old names, and a .bin."""
    peer = unet(**DDPM)
    pipeline_of(tmp_path, peer)
    for name in ("unet/config.json", "scheduler/scheduler_config.json"):
        (tmp_path / name).rename(tmp_path / Path(name).name)
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    weights = {}
    for name, value in peer.state_dict().items():
        for new, before in old.items():
            name = name.replace(new, before)
        weights[name] = value.half()
    torch.save(weights, tmp_path / "diffusion_pytorch_model.bin")
    for path in (tmp_path / "unet").iterdir():
        path.unlink()
    (tmp_path / "unet").rmdir()
    (tmp_path / "scheduler").rmdir()
    model, x = ddim.load(tmp_path), torch.randn(2, 3, 8, 8)
    t = torch.tensor([3.0, 900.0])
    torch.testing.assert_close(model.network(x, t), peer.half().float()(x, t).sample, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, "down_block_types has 'SkipDownBlock2D'"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type is 'fourier', and ddim reads 'positional'"),
        ({"out_channels": 6}, "out_channels is 6 and in_channels is 3"),
        ({"mid_block_scale_factor": 2**0.5}, "mid_block_scale_factor is 1.41"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu'"),
        ({"class_embed_type": "timestep"}, "class_embed_type is 'timestep'"),
        ({"upsample_type": "resnet"}, "upsample_type is 'resnet'"),
        ({"mid_block_type": None}, "mid_block_type is None"),
        ({"encoder_hid_dim": 3}, "does not know its field encoder_hid_dim = 3"),
        ({"sample_size": None}, "size of its images is not in the file; give image_size"),
        ({"block_out_channels": [32]}, "describe 1, 2 and 2 stages"),
        ({"block_out_channels": [32, "64"]}, "A U-Net has 1 to 16 stages"),
        ({"block_out_channels": [32, 16384]}, r"cannot be built: its network has more than"),
        ({"norm_num_groups": 24}, "24 does not divide 32"),
        ({"attention_head_dim": 24}, "24 does not divide 64"),
        ({"block_out_channels": [32, 96]}, r"is \(64,.* and not \(96,"),
        ({"layers_per_block": 2}, r"lacks down_blocks.0.resnets.1.conv1.bias, .* and \d+ more"),
        ({"_class_name": "VQModel"}, "describes a 'VQModel', and ddim reads UNet2DModel, and UNet2DConditionModel wit"),
    ],
)
def test_a_network_that_ddim_does_not_have_is_refused_by_its_field(changes, message, tmp_path):
    pipeline_of(tmp_path)
    edit(tmp_path / "unet/config.json", **changes)
    with pytest.raises(UserError, match=message) as refusal:
        ddim.load(tmp_path)
    assert str(refusal.value).count("blocks.") <= 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "ScoreSdeVeScheduler"}, "_class_name is 'ScoreSdeVeScheduler', and ddim reads DDIMScheduler"),
        ({"prediction_type": "flow"}, "prediction_type is 'flow', and ddim reads epsilon, sample, v_prediction"),
        ({"timestep_spacing": "cubic"}, "timestep_spacing is 'cubic', and ddim reads leading, trailing, linspace"),
        ({"steps_offset": 2}, "steps_offset is 2, and ddim reads 0, 1"),
        ({"clip_sample_range": 2.0}, "clip_sample_range is 2.0, and ddim has 1.0 alone"),
        ({"set_alpha_to_one": None}, "set_alpha_to_one is None"),
        ({"thresholding": True}, "thresholding is True"),
        ({"beta_schedule": "laplace"}, "beta_schedule is 'laplace'"),
        ({"sigma_min": 0.1}, "does not know its field sigma_min = 0.1"),
        ({"beta_end": 2}, "beta_end must be a finite number of at least 0 and at most 1; got 2"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps must be a whole number"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas has 2 numbers, and num_train_timesteps is 1000"),
        ({"rescale_betas_zero_snr": True}, "predicts eps cannot be used on a schedule with alpha_T = 0"),
    ],
)
def test_a_scheduler_that_ddim_does_not_have_is_refused_by_its_field(changes, message, tmp_path):
    pipeline_of(tmp_path)
    edit(tmp_path / "scheduler/scheduler_config.json", **changes)
    with pytest.raises(UserError, match=message):
        ddim.load(tmp_path)


class Runs:
    """A pickle of it runs a command."""

    def __reduce__(self):
        import os

        return os.mkdir, ("was-run",)


def test_broken_and_hostile_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = pipeline_of(tmp_path / "a")
    weights = folder / "unet" / WEIGHTS[0]
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="safetensors, it is damaged"):
        ddim.load(folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"holds no weights; ddim reads diffusion_pytorch_model\.safetensors"):
        ddim.load(folder)
    torch.save({"conv_in.weight": Runs()}, folder / "unet" / WEIGHTS[1])
    with pytest.raises(UserError, match=r"refused, and nothing in it was run: it names (posix|nt)\.mkdir"):
        ddim.load(folder)
    assert not (tmp_path / "was-run").exists()
    edit(folder / "model_index.json", vqvae=["diffusers", "VQModel"])
    with pytest.raises(UserError, match="has the part 'vqvae'"):
        ddim.load(folder)
    (folder / "model_index.json").write_text('{"_class_name": "DDIMPipeline", "prior": [null, null]}')
    with pytest.raises(UserError, match="names the parts prior, and no unet"):
        ddim.load(folder)
    (folder / "model_index.json").write_text("[]")
    with pytest.raises(UserError, match="is not a config of diffusers"):
        ddim.load(folder)
    with pytest.raises(UserError, match="holds one set of weights; leave out --raw"):
        ddim.load(folder, raw=True)


def test_a_folder_that_asks_for_no_clipping_gets_none(tmp_path):
    """By default, for the saved model too, and back in diffusers."""
    pipeline_of(tmp_path / "a", clip_sample=False)
    model = ddim.load(tmp_path / "a")
    assert not model.sampling.clip
    assert torch.equal(*(model.sample(1, steps=2, clip=clip, progress=False) for clip in (True, False)))
    ddim.model_io.save(model, tmp_path / "b")
    again = ddim.load(tmp_path / "b")
    assert again.sampling == model.sampling
    interop.to_diffusers(again, tmp_path / "c")
    assert not json.loads((tmp_path / "c/scheduler/scheduler_config.json").read_text())["clip_sample"]


@pytest.mark.parametrize(
    ("scheduler", "allowed", "message"),
    [
        ({"set_alpha_to_one": False, "steps_offset": 1}, 0.06, "ddim ends at t = 0"),
        ({"timestep_spacing": "linspace"}, 0.2, "each step of ddim ends where the next begins"),
    ],
)
def test_what_is_not_quite_the_same_is_said(scheduler, allowed, message, tmp_path):
    """The noise of the first index, sigma = 0.01; and steps that end beside the next, at most one index away."""
    pipeline_of(tmp_path, unet(**DDPM), **scheduler)
    with pytest.warns(Notice, match=message):
        model = ddim.load(tmp_path)
    theirs = peer_samples(diffusers.DDIMPipeline.from_pretrained(tmp_path), noise_of(model))
    difference = (model.sample(2, seed=5, progress=False) - theirs).abs()
    assert difference.max() < allowed
    assert difference.mean() < allowed / 5


EULER = {
    "linspace": diffusers.EulerDiscreteScheduler(),
    "trailing, v": diffusers.EulerDiscreteScheduler(timestep_spacing="trailing", prediction_type="v_prediction"),
    "leading, offset": diffusers.EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1),
    "karras": diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, beta_schedule="scaled_linear"),
    "flow": diffusers.FlowMatchEulerDiscreteScheduler(),
    "edm": diffusers.EDMEulerScheduler(sigma_data=0.4),
}


@pytest.mark.parametrize("scheduler", EULER.values(), ids=EULER)
def test_euler_s_method(scheduler, tmp_path):
    """Which is DDIM, in 50 steps from the same noise: to 1e-3 of the largest number, as nothing is clipped."""
    diffusers.DDPMPipeline(unet(**DDPM), scheduler).save_pretrained(tmp_path)
    model, peer = ddim.load(tmp_path), unet(**DDPM)
    scheduler.set_timesteps(50)
    x = noise_of(model) * getattr(scheduler, "init_noise_sigma", 1.0)
    with torch.no_grad():
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            x = scheduler.step(peer(scaled, t).sample, t, x).prev_sample
    ours = model.sample(2, seed=5, progress=False)
    assert (ours - x).abs().max() < 1e-3 * x.abs().max()
    ddim.model_io.save(model, tmp_path / "run")
    assert torch.equal(ddim.load(tmp_path / "run").sample(2, seed=5, progress=False), ours)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (
            {"_class_name": "EulerDiscreteScheduler", "final_sigmas_type": "sigma_min"},
            "final_sigmas_type is 'sigma_min'",
        ),
        (
            {"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": True},
            "use_beta_sigmas is True, and ddim has Fa",
        ),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}, "prediction_type is 'v_prediction'"),
        ({"_class_name": "EDMEulerScheduler", "rho": 5}, "rho is 5, and ddim has 7.0 alone"),
        ({"_class_name": "EDMEulerScheduler", "sigma_min": 90}, "sigma_min must be below sigma_max"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "shift is 3.0, and ddim has 1.0 alone"),
    ],
)
def test_what_the_euler_schedulers_have_more_is_refused_by_its_field(scheduler, message, tmp_path):
    pipeline_of(tmp_path)
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    with pytest.raises(UserError, match=message):
        ddim.load(tmp_path)


def test_a_loaded_model_is_a_model_of_ddim(tmp_path):
    """It is saved, loaded, and exported again with the same weights."""
    peer = pipeline_of(tmp_path / "a", unet(**DDPM), timestep_spacing="trailing")
    model = ddim.load(peer)
    ddim.model_io.save(model, tmp_path / "run")
    again = ddim.load(tmp_path / "run")
    assert torch.equal(again.sample(1, steps=2, progress=False), model.sample(1, steps=2, progress=False))
    interop.to_diffusers(again, tmp_path / "b")
    back = diffusers.UNet2DModel.from_pretrained(tmp_path / "b/unet")
    original = unet(**DDPM).state_dict()
    assert back.state_dict().keys() == original.keys()
    assert all(torch.equal(value, original[name]) for name, value in back.state_dict().items())
    assert json.loads((tmp_path / "b/scheduler/scheduler_config.json").read_text())["timestep_spacing"] == "trailing"


OURS = {
    "one group": ("unet", {"width": 16, "multipliers": (1, 2), "groups": 1}, {}),
    "eight groups": ("unet", {"width": 32, "multipliers": (1, 2), "groups": 8, "attention": (0,)}, {"predicts": "v"}),
    "scale-shift": ("unet", {"width": 16, "groups": 2, "scale_shift": True}, {"noise": schedule.cosine(T=200)}),
    "indexed": ("unet", {"width": 16, "groups": 1}, {"indexed": True}),
    "unet2d": ("unet2d", {}, {}),
    "unet2d, no norm": ("unet2d", {"scale_shift": True, "middle_groups": 0, "cos_first": False}, {}),
    "x0, vp-sde": ("unet2d", {"padding": 0, "frequency_shift": 1}, {"predicts": "x0", "noise": schedule.vp_sde()}),
}


def ours(name, options, noise=None, predicts="eps", indexed=False, classes=None):
    network = lively(nets.build(name, 3, "tiny", classes, **options))
    noise = noise or schedule.linear()
    sampling = Sampling(20, "ddim", 0.0, "trailing")
    return ddim.Denoiser(network, noise, predicts, (3, 8, 8), classes, indexed=indexed, sampling=sampling).eval()


@pytest.mark.parametrize("case", OURS.values(), ids=OURS)
def test_a_network_of_ddim_in_diffusers(case, tmp_path):
    name, options, about = case
    model = ours(name, options, **about)
    interop.to_diffusers(model, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        again = ddim.load(tmp_path)
    peer = diffusers.DDIMPipeline.from_pretrained(tmp_path)
    x, t = torch.randn(3, 3, 8, 8), torch.tensor([1.0, 80.0, 200.0])
    with torch.no_grad():
        expected = model.network(x, t - 1 if model.indexed else t)
        torch.testing.assert_close(peer.unet(x, t - 1).sample, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(again.network(x, t - 1), expected, rtol=0, atol=1e-5)
    samples = model.sample(2, steps=50, sampler="ddim", spacing="trailing", seed=5, progress=False)
    torch.testing.assert_close(peer_samples(peer, noise_of(model)), samples, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["unet", "unet2d"])
@pytest.mark.parametrize("label", [-1, 0, 2])
def test_a_class_becomes_a_folder(name, label, tmp_path):
    model = ours(name, {"width": 16, "groups": 1} if name == "unet" else {}, classes=3)
    interop.to_diffusers(model, tmp_path, label=label)
    peer = diffusers.UNet2DModel.from_pretrained(tmp_path / "unet")
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([5.0, 900.0])
    with torch.no_grad():
        expected = model.network(x, t, torch.tensor([label, label]))
        torch.testing.assert_close(peer(x, t - 1).sample, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ours("unet", {"fold": 2}), "the network has fold = 2"),
        (lambda: ours("unet", {}), r"norm_num_groups\), and the network has 8 for 32 channels, 16 for 64 channels"),
        (
            lambda: ours("plain", {}),
            r"cannot express the network 'plain' \(PlainUNet\), only unet2d and unet; train .* unet2d",
        ),
        (lambda: ours("unet2d", {"middle_groups": 0}), "middle_groups = 0"),
        (lambda: ours("unet2d", {"widths": (32,) * 5, "blocks": 1}), "halves each side 4 times .* images are 8 x 8"),
        (lambda: ours("unet2d", {}, noise=schedule.flow(), predicts="x0"), "this model has schedule = 'flow'"),
        (lambda: ours("unet2d", {}, predicts="flow"), "no prediction_type for predicts = 'flow'"),
        (lambda: ours("unet2d", {}, classes=3), "DDIMPipeline passes no labels, and this model has classes = 3"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_its_name(make, message, tmp_path):
    with pytest.raises(UserError, match=message):
        interop.to_diffusers(make(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_nan_are_not_written(tmp_path):
    model = ours("unet2d", {})
    model.network.conv_in.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match=r"The weights conv_in\.weight are not all finite, so nothing is written"):
        interop.to_diffusers(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


WRONG = (None, "x", [], [None], {}, -1, 0, 1e30, True)


@pytest.mark.slow  # hundreds of folders
@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.filterwarnings("ignore:.*not quite")
def test_any_value_of_any_field_loads_or_is_refused_in_a_sentence(part, tmp_path):
    folder = pipeline_of(tmp_path, unet(block_out_channels=(8, 8), norm_num_groups=4))
    whole = json.loads((folder / part).read_text())
    refused = []
    for field in whole.keys() - {"_diffusers_version", "_name_or_path"}:
        for value in WRONG:
            (folder / part).write_text(json.dumps({**whole, field: value}))
            try:
                ddim.load(folder, backend="torch")
            except UserError as error:
                refused.append(str(error))
    assert len(refused) > 5 * len(whole)
    assert all(str(folder) in text and "\n" not in text for text in refused)


def test_a_label_that_is_not_a_class(tmp_path):
    with pytest.raises(UserError, match="no classes; leave the label 1 out"):
        interop.to_diffusers(ours("unet2d", {}), tmp_path, label=1)
    with pytest.raises(UserError, match="The label must be a whole number of at least -1 and at most 2; got 3"):
        interop.to_diffusers(ours("unet2d", {}, classes=3), tmp_path, label=3)
