"""The loop of diffusers' unconditional example (train_unconditional.py) on MNIST, for the equal-time benchmark.

UNet2DModel of 1.62 million parameters, DDPMScheduler (1,000 steps, linear, epsilon), and the example's AdamW,
cosine schedule with 500 warm-up steps, gradient clipping at 1.0 and EMAModel, all at its defaults. The batch
is 64. Samples come from DDIMScheduler with the averaged weights.

    DDIM_DATA=... python diffusers_loop.py                                    measures the step time
    DDIM_DATA=... python diffusers_loop.py --steps N --run RUN --out FOLDER   trains and samples
"""

import diffusers
import torch
from common import Digits, arguments, cycle, measure, save_samples, train
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

BATCH = 64


def build():
    """Make the network."""
    return diffusers.UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )


def main():
    """Measure, or train and sample."""
    args = arguments(__doc__.splitlines()[0])
    model = build()
    scheduler = diffusers.DDPMScheduler(1000, beta_schedule="linear", prediction_type="epsilon")
    average = EMAModel(
        model.parameters(),
        decay=0.9999,
        use_ema_warmup=True,
        inv_gamma=1.0,
        power=0.75,
        model_cls=diffusers.UNet2DModel,
        model_config=model.config,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=args.steps or 10_000)
    batches = cycle(torch.utils.data.DataLoader(Digits(), batch_size=BATCH, shuffle=True, drop_last=True))

    def step():
        clean = next(batches) * 2 - 1
        noise = torch.randn_like(clean)
        times = torch.randint(0, 1000, (len(clean),))
        loss = torch.nn.functional.mse_loss(model(scheduler.add_noise(clean, noise, times), times).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.step(model.parameters())
        return loss.item()

    parameters = sum(p.numel() for p in model.parameters())
    facts = {"library": f"diffusers {diffusers.__version__}", "parameters": parameters, "batch": BATCH}
    model.train()
    if args.steps is None:
        return measure(step, facts)
    spent = train(step, {"model": model, "optimizer": optimizer, "rate": rate, "average": average}, args)
    average.copy_to(model.parameters())
    model.eval()
    sampler = diffusers.DDIMScheduler.from_config(scheduler.config, clip_sample=True)

    @torch.inference_mode()
    def draw(count, steps):
        sampler.set_timesteps(steps)
        images = torch.randn(count, 1, 28, 28)
        for t in sampler.timesteps:
            images = sampler.step(model(images, t).sample, t, images).prev_sample
        return (images + 1) / 2

    return save_samples(draw, "diffusers", args, facts, spent)


if __name__ == "__main__":
    main()
