"""minimind data get: download MiniMind's published data sets."""

from __future__ import annotations

from pathlib import Path

from minimind.commands.options import command_parser
from minimind.data.sources import published
from minimind.errors import UserError
from minimind.util.progress import progress
from minimind.util.units import size_text

EPILOG = """example:
  minimind data get pretrain_t2t_mini sft_t2t_mini
  minimind data get rlaif --from modelscope --to ~/data

A download that was stopped goes on where it ended. The commit it came from is kept in NAME.source.json, so
that the same command gives the same file next year. HF_ENDPOINT and MODELSCOPE_ENDPOINT name mirrors.
"""


def run(argv: list[str]) -> int | None:
    parser = command_parser("data get", "Download MiniMind's published data sets.", EPILOG)
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets to download (see --list)")
    parser.add_argument("--list", action="store_true", help="show the published data sets and stop")
    parser.add_argument(
        "--to", type=Path, default=Path("data"), metavar="DIR", help="directory to put them in (data)"
    )
    parser.add_argument(
        "--from",
        dest="hub",
        choices=list(published.HUBS),
        help="where to get them: Hugging Face (hf, unless they were got from elsewhere before) or ModelScope",
    )
    parser.add_argument(
        "--revision", metavar="R", help="branch, tag or commit (the one recorded in DIR, else the newest)"
    )
    options = parser.parse_args(argv)
    if options.list:
        _print_list()
        return None
    if not options.names:
        raise UserError("name the data sets to download, for example pretrain_t2t_mini; --list shows them all")

    directory = options.to.expanduser()
    sources = [published.locate(name, directory, options.hub, options.revision) for name in options.names]
    published.check_disk(sources, directory)
    print(f"{size_text(sum(source.size for source in sources))} in {len(sources)} file(s) to {directory}")
    for source in sources:
        path = _fetch(source, directory)
        print(f"{path}  {size_text(source.size)}  {source.repository}@{source.revision[:12]}  checksum ok")
    return None


def _fetch(source: published.Source, directory: Path) -> Path:
    with progress(source.name, source.size) as update:
        return published.fetch(source, directory, update.reach)


def _print_list() -> None:
    width = max(map(len, published.PUBLISHED))
    for name, (size, use) in published.PUBLISHED.items():
        print(f"{name:{width}}  {size:>6}  {use}")
    for variable, endpoint, repository in published.HUBS.values():
        print(f"{endpoint}/datasets/{repository} (mirror: {variable}); its license applies")
