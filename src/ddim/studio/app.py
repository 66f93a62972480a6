"""The application: the page with its tabs, and the server on this machine."""

import os
from collections.abc import Callable, Sequence
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: nothing is requested from outside
import gradio as gr

from ddim.errors import UserError
from ddim.studio import compare, latent, restore, sample, train
from ddim.studio.models import NETWORK, Models
from ddim.studio.views import STYLE

MOST_UPLOADED = "10mb"
WAITING = 64  # events in the queue
SESSION = 3600  # seconds after which the temporary files of a page are removed
POLICY = """<meta http-equiv="Content-Security-Policy" content="img-src 'self' data: blob:">"""
"""No image is loaded from elsewhere: gradio shows the name of a file that is too large as HTML."""


def build(models: Models, trainings: train.Trainings) -> gr.Blocks:
    """Return the page."""
    with gr.Blocks(title="ddim studio", analytics_enabled=False, delete_cache=(SESSION, SESSION)) as page:
        gr.Markdown("# ddim studio\nDenoising diffusion implicit models: sample, compare, interpolate, restore, train.")
        with gr.Tabs():
            with gr.Tab("Sample"):
                begin, inputs, outputs = sample.tab(models)
            with gr.Tab("Compare"):
                compare.tab(models)
            with gr.Tab("Latent"):
                latent.tab(models)
            with gr.Tab("Restore"):
                restore.tab(models)
            with gr.Tab("Train") as shown:
                train.tab(models, trainings, shown)
        page.load(begin, inputs, outputs, api_visibility="private", **NETWORK)
    return page.queue(max_size=WAITING)


def launch(runs: Sequence[str], host: str, port: int) -> Callable[[], None]:
    """Serve the page in threads of this process, and return the function that ends it, and the trainings it started.

    Args:
        runs: models to offer beside those that come with ddim.
        host, port: where to listen.

    Raises:
        UserError: a run that cannot be loaded, or an address that cannot be used.
    """
    trainings = train.Trainings()
    page = build(Models(runs), trainings)
    system: Any = ("system-ui", "sans-serif")
    theme = gr.themes.Base(font=system, font_mono=("ui-monospace", "monospace"))  # no font is loaded
    theme.set(block_info_text_color="*body_text_color", block_label_text_color="*body_text_color")
    try:
        page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            inbrowser=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=MOST_UPLOADED,
            theme=theme,
            css=STYLE,
            head=POLICY,
        )
    except OSError as error:
        raise UserError(f"Nothing can be served at {host}:{port}, it may be in use; choose another --port.") from error

    def close() -> None:
        page.close(verbose=False)
        trainings.close()

    return close
