"""The ``condgen`` command. ``train`` is Hydra's own command line; the others are plain and typed."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from condgen.run.boundary import reporting
from condgen.run.signals import interruptible

Device = Annotated[str, typer.Option(help="Where it computes: cpu, cuda, cuda:1, ...")]
Trust = Annotated[bool, typer.Option("--trust", help="Accept foreign classes in what was stored.")]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def condgen(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Train, measure and sample conditional generators."""


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(context: typer.Context) -> None:
    """Train a model: condgen train [GROUP=CHOICE | KEY=VALUE ...]; see condgen train --help."""
    from condgen.jobs import run_hydra

    run_hydra(context.args)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes, such as trainer.max_epochs=40.")] = None,
    source: Annotated[Literal["last", "best"], typer.Option("--from", help="The checkpoint to go on from.")] = "last",
    trust: Trust = False,
) -> None:
    """Go on with a run that was stopped, killed or is to be longer."""
    from condgen.resume import resume as go_on

    message = go_on(run.resolve(), overrides or [], trust, source)
    if message:
        typer.echo(message)


@app.command()
def sample(
    checkpoint: Annotated[Path, typer.Argument(help="A run directory, a .ckpt file, an exported folder, or zoo:NAME.")],
    out: Annotated[
        Path, typer.Option(help="What to write: a .png grid, an .npz, a .wav of sounds, or a folder of files with labels.csv.")
    ],
    condition: Annotated[
        str | None, typer.Option(help="What to generate: 0-9, frog,cat, digit=3,colour=red|blue. Without it: every class.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Walk from --condition to this one, in --count samples.")] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            help="A picture to start from, for models that need one, of a vocoder a recording; in a grid it comes first."
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Samples for each condition.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed gives the same samples.")] = 0,
    truncation: Annotated[float | None, typer.Option(help="Bound of the noise: smaller is better and less diverse.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Factor of the noise.")] = None,
    standing: Annotated[int | None, typer.Option(help="Batches over which to measure batch norm's statistics anew.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of guidance: larger is clearer and less diverse.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in which a sample is made.")] = None,
    solver: Annotated[str | None, typer.Option(help="Solver of the ODE that makes them: euler, midpoint, heun.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Likeliest characters among which each is drawn, of texts.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Probability that these have together.")] = None,
    device: Device = "cpu",
    metadata: Annotated[
        bool, typer.Option("--metadata/--no-metadata", help="Let the files say which model made them, and how.")
    ] = True,
    watermark: Annotated[
        str | None, typer.Option(metavar="KEY", help="Hide a mark in the pixels that only this secret text finds again.")
    ] = None,
    vocoder: Annotated[
        Path | None, typer.Option(help="A run of model=vocoder that makes the sound of log-mel images, for Griffin-Lim.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Draw samples from a trained model. Needs neither its data nor its training flags."""
    from condgen.sample import write_samples

    noise = {"truncation": truncation, "temperature": temperature, "standing": standing}
    path = {"guidance": guidance, "steps": steps, "solver": solver, "top_k": top_k, "top_p": top_p}
    write_samples(
        checkpoint, out, condition, count, seed, device, trust, to, image, metadata, watermark, vocoder, **noise, **path
    )


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A .png or .npz of samples; with --key any picture.")],
    model: Annotated[
        Path | None, typer.Option(help="Make the same pixels again with this run, checkpoint or zoo:NAME, and compare.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="The picture that the samples started from.")] = None,
    key: Annotated[str | None, typer.Option(help="Look for the watermark of this secret text.")] = None,
    vocoder: Annotated[Path | None, typer.Option(help="The vocoder that made the sound.")] = None,
    device: Device = "cpu",
    trust: Trust = False,
) -> None:
    """Tell where a file of samples comes from; exit status 1 where it is not what it seems."""
    from condgen.inspect import inspect as tell

    for said in tell(file, model, image, key, device, trust, vocoder):
        typer.echo(said)


@app.command()
def evaluate(
    target: Annotated[
        Path, typer.Argument(help="A model, as for condgen sample; an .npz, or a folder of class sub-folders of images.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="Such as split=val, samples=5000, extractor=inception.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="evaluation/ of the run")] = None,
    device: Device = "cpu",
    trust: Trust = False,
) -> None:
    """Measure a trained model, or anybody's images, against real ones: every figure under its protocol, beside its floor."""
    from condgen.evaluate import evaluate as measure
    from condgen.metrics.results import table

    record, folder = measure(target, overrides or [], out, device, trust)
    typer.echo(f"{table(record)}\nwritten to {folder}")


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(help="A run directory, or one of its checkpoints.")],
    count: Annotated[int, typer.Option(min=1, help="Training images, and unseen ones, at most.")] = 5000,
    samples: Annotated[int, typer.Option(min=1, max=1_000_000, help="Samples to draw.")] = 5000,
    seed: Annotated[int, typer.Option(help="Decides which images and which samples.")] = 0,
    device: Device = "cpu",
    trust: Trust = False,
) -> None:
    """Attack a trained model: does it give its training images away? Membership, copies, a lower bound on epsilon."""
    from condgen.audit import audit as attack
    from condgen.audit import told as findings

    found, file = attack(run, count, samples, seed, device, trust)
    typer.echo(f"{findings(found)}\nwritten to {file}")


@app.command()
def serve(
    models: Annotated[list[str], typer.Argument(help="Runs, checkpoints, exported folders or zoo:NAME; or NAME=RUN.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 8000,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 is all of them.")] = "127.0.0.1",
    token: Annotated[str | None, typer.Option(envvar="CONDGEN_TOKEN", help="What requests have to bring.")] = None,
    max_count: Annotated[int, typer.Option(min=1, max=10_000, help="Samples for each condition.")] = 64,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="Requests that are waited for at a time.")] = 64,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for a request.")] = 60.0,
    watermark: Annotated[
        str | None, typer.Option(metavar="KEY", envvar="CONDGEN_WATERMARK", help="Hide a mark of this text in all images.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Serve trained models: a page and an API that draw samples, see docs/serving.md."""
    from condgen.serve import serve as start

    start(models, host, port, token, max_count, queue, timeout, trust, watermark)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A run directory, a .ckpt file, an exported folder, or zoo:NAME.")],
    out: Annotated[Path, typer.Option(help="A new folder; with --format a new .onnx or .pt2 file.")],
    form: Annotated[str, typer.Option("--format", help="folder, onnx or pt2.")] = "folder",
    half: Annotated[bool, typer.Option("--half", help="Write the weights in 16 bits.")] = False,
    sampling: Annotated[
        list[str] | None, typer.Option(help="How samples are drawn by default, such as steps=4; may be repeated.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights.", show_default="that of the data")] = None,
    limit: Annotated[list[str] | None, typer.Option(help="A sentence for the card's limits; may be repeated.")] = None,
    trust: Trust = False,
) -> None:
    """Write a trained model for others to use: a folder with its card, an ONNX graph, or a torch.export program."""
    from condgen.export import export as write

    typer.echo(write(model, out, form, half, sampling or [], licence, limit or [], trust))


@app.command()
def pack(
    source: Annotated[
        str, typer.Argument(help="A data set of conf/data, such as mnist; or a folder of images, a .zip or an .npz.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="How it is read: data.source.KEY=VALUE, data.image_size=64, data.channels=3.")
    ] = None,
    out: Annotated[Path, typer.Option(help="A new folder, or that of a packing that was stopped, which goes on.")] = ...,  # type: ignore[assignment]
    shard_images: Annotated[int, typer.Option(min=1, help="Images in each shard.")] = 4096,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that write shards.", show_default="one a processor")
    ] = None,
) -> None:
    """Write a data set as tar files with an index, for sets larger than memory or disk: condgen train data=shards."""
    from condgen.pack import pack as write

    typer.echo(write(source, overrides or [], out, shard_images, workers))


@app.command()
def zoo(name: Annotated[str | None, typer.Argument(help="One of them, to see its card.")] = None) -> None:
    """List the trained models that ship with condgen."""
    from condgen.zoo import card_text, listing

    typer.echo(listing() if name is None else card_text(name))


@app.command()
def study(
    target: Annotated[Path, typer.Argument(help="A .ckpt file, a run directory, or the folder of a study, to go on.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Such as trials=100, question=both, split=val.")] = None,
    against: Annotated[Path | None, typer.Option(help="data: real images; or another model.", show_default="data")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of a new study.")] = None,
    results: Annotated[bool, typer.Option("--results", help="Count the answers of a study, and do not serve it.")] = False,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the page of the study, until Ctrl-C.")] = True,
    host: Annotated[str, typer.Option(help="Where the page is served: 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port of the page; 0: one that is free.")] = 8000,
    device: Device = "cpu",
    trust: Trust = False,
) -> None:
    """Let people tell generated pictures from real ones, or choose between two models, on a page in the browser."""
    from condgen.study import host_study, results_of
    from condgen.study import study as make

    if results:
        typer.echo(results_of(target))
    elif not serve:
        folder = make(target, overrides or [], against, out, device, trust)
        typer.echo(f"{folder} is ready: condgen study {folder} serves its page.")
    else:
        host_study(lambda: make(target, overrides or [], against, out, device, trust), host, port, typer.echo)


@app.command(name="data")
def show_data(
    data: Annotated[str, typer.Argument(help="mnist, cifar10, ...; a folder of class sub-folders, a zip, or a run.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Such as data.imbalance=longtail:100.")] = None,
    augment: Annotated[
        list[str] | None, typer.Option(help="flip, rotate_crop, ..., or a node {_target_: CLASS, ...}; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a picture of images, and one of what augmentation does.")] = None,
    trust: Trust = False,
) -> None:
    """Show a data set as it would be trained on: classes and counts, sizes, pictures, what augmentation does."""
    from condgen.dataset import show_data as told

    typer.echo(told(data, overrides or [], augment or [], out, trust))


@app.command()
def augment(
    model: Annotated[Path, typer.Argument(help="A run directory, an exported folder or zoo:NAME, trained with classes.")],
    out: Annotated[Path, typer.Option(help="A new folder, or FILE.zip (and FILE-test.zip).")],
    balance: Annotated[bool, typer.Option("--balance", help="Fill every class up to the largest.")] = False,
    count: Annotated[str | None, typer.Option(help="Generate 500 of each class, or 0=500,3=200.")] = None,
    condition: Annotated[str | None, typer.Option(help="The classes to fill, such as 8,9.", show_default="all")] = None,
    keep: Annotated[
        float | None, typer.Option(help="Share that is taken: what a classifier trained on the real images is surest of.")
    ] = None,
    copies: Annotated[
        bool,
        typer.Option("--copies/--no-copies", help="Take what is nearer to a training image than real ones are."),
    ] = True,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    sampling: Annotated[list[str] | None, typer.Option(help="How they are drawn, such as guidance=2; may be repeated.")] = None,
    device: Device = "cpu",
    trust: Trust = False,
) -> None:
    """Write the training images of a model with generated ones among them, and a table that says which; killed, it goes on."""
    from condgen.augmented import augment as write

    chosen = {"balance": balance, "count": count, "condition": condition, "keep": keep, "copies": copies, "seed": seed}
    typer.echo(write(model, out, **chosen, sampling=sampling, device=device, trust=trust))  # type: ignore[arg-type]


@app.command()
def benefit(
    data: Annotated[str, typer.Argument(help="The real images: mnist, ..., a folder, a zip, or a run whose data to take.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Such as data.imbalance=longtail:100 seeds=3.")] = None,
    generator: Annotated[Path, typer.Option(help="What draws images: a model, as for condgen sample.")] = ...,  # type: ignore[assignment]
    out: Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="below outputs/benefit")] = None,
    device: Device = "cpu",
    trust: Trust = False,
) -> None:
    """Say whether generated images help a classifier, against oversampling, augmentation and the like; killed, it goes on."""
    from condgen.benefit import benefit as compare

    outcome, folder = compare(data, generator, overrides or [], out, device, trust)
    typer.echo(f"{outcome.table()}\n\n{outcome.sentence()}\nwritten to {folder}")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Gather a run's figures, pictures, curves and configuration in RUN/report.html, a page that needs nothing else."""
    from condgen.report import write_report

    typer.echo(write_report(run))


@app.command()
def leaderboard(
    folder: Annotated[Path, typer.Argument(help="A folder with runs and measurements, such as outputs.")],
    out: Annotated[Path | None, typer.Option(help="Write the table to a .md, or to a .csv with a line a figure.")] = None,
    sort: Annotated[str | None, typer.Option(help="The metric that orders the rows; without it FID.")] = None,
) -> None:
    """Compare the figures of many runs: a section a protocol, mean and spread over seeds."""
    from condgen.leaderboard import leaderboard as table

    typer.echo(table(folder, out, sort))


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="A run, a sweep's folder, or one above, such as outputs.")],
) -> None:
    """List runs: queued, running, done or failed, how far they are, their best metric, when they will end."""
    from condgen.run.status import show

    typer.echo(show(folder))


def main() -> None:
    """Run the command; a mistake of the user's ends in one sentence and status 1, or 128 + n for signal n."""
    arguments = sys.argv[1:] or ["--help"]
    if "-sc" in arguments[:2] or "--shell-completion" in arguments[:2]:
        answer_shell(arguments)
        return
    debug = "--debug" in arguments
    sys.argv = [sys.argv[0], *(argument for argument in arguments if argument != "--debug")]
    with interruptible():
        status = reporting(lambda: app(sys.argv[1:], prog_name="condgen", standalone_mode=False), debug)
    sys.exit(status)


def answer_shell(arguments: list[str]) -> None:
    """Complete a command line, or let Hydra do what its other shell options ask for.

    The installed shell function asks ``condgen -sc query=bash`` with the line in COMP_LINE. What needs a composed configuration
    is Hydra's to complete, too; of the line it strips the program's name only.
    """
    if any(argument.startswith("query=") for argument in arguments):
        from condgen.config.completion import completions

        line = os.environ.get("COMP_LINE", "")
        found = completions(line, subcommands())
        if found is not None:
            print(" ".join(found))
            return
        os.environ["COMP_LINE"] = line.replace(" train", "", 1)
    from condgen.jobs import run_hydra

    run_hydra([argument for argument in arguments if argument != "train"])


def subcommands() -> dict[str, list[str]]:
    """Return the options of each subcommand."""
    group: Any = typer.main.get_command(app)
    return {
        name: [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        for name, command in group.commands.items()
    }
