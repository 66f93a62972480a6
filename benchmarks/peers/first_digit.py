"""Draw one image from the shell with diffusers, from a folder that `sampling_peers.py` writes.

python first_digit.py FOLDER OUT.png
"""

import sys

import torch
from converted import UNet, set_groups
from diffusers import DDIMPipeline, DDIMScheduler

folder, out = sys.argv[1:]
unet = UNet.from_pretrained(folder, subfolder="unet")
set_groups(unet)
unet.labels = torch.tensor([0])
pipeline = DDIMPipeline(unet, DDIMScheduler.from_pretrained(folder, subfolder="scheduler"))
pipeline(num_inference_steps=20, use_clipped_model_output=True).images[0].save(out)
