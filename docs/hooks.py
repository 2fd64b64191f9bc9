"""What mkdocs.yml's site has beyond the pages in docs/: the reference of commands and settings, and the recipes.

`<!-- commands -->` and `<!-- configuration -->` in a page become what the program itself declares. The recipes and the
changelog are pages of the site, too, and links between them and docs/ are those that work in a checkout.
"""

import html
import importlib
import inspect
import json
import os
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import typer
from griffe import Docstring, DocstringSectionKind, Extension, Object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from asr import encoders
from asr.cli.app import app
from asr.core.config import Config
from asr.lm import config as lm
from asr.training.gmm import GMMConfig

ROOT = Path(__file__).parents[1]
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "recipes/**/*.md", "recipes/**/*.png", "recipes/**/*.yaml")
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")


@dataclass(frozen=True)
class Key:
    """A key of a YAML file: its dotted name, its type in words, its default as YAML writes it, and its meaning."""

    name: str
    type: str
    default: str
    meaning: str


def commands(name: str = "asr", command: Any = None) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Yield each command of `asr` with its full name, groups before what is in them."""
    command = command or typer.main.get_command(app)
    yield name, command
    for verb, each in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {verb}", each)


def settings() -> dict[str, list[Key]]:
    """Return the keys of recipes by the heading that they stand under on the page."""
    families = {name: importlib.import_module(f"asr.encoders.{name}").EncoderConfig for name in encoders.FAMILIES}
    models = {f"Model: {name}": cls for name, cls in (families | {"gmm_hmm": GMMConfig}).items()}
    language = {f"Language model: {name}": cls for name, cls in lm.MODELS.items()}
    found = _sections("Run", Config) | {heading: list(_keys("model.", cls)) for heading, cls in models.items()}
    found |= _sections("Language model", lm.LmConfig)
    return found | {heading: list(_keys("model.", cls)) for heading, cls in language.items()}


def _sections(title: str, cls: type) -> dict[str, list[Key]]:
    """Return the keys of a dataclass whose fields are sections or values, each section under a heading of its own."""
    hints = typing.get_type_hints(cls)
    sections = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    under = {f"{title}: {name}": list(_keys(f"{name}.", section)) for name, section in sections.items()}
    return {title: list(_keys("", cls))} | under


def _keys(prefix: str, cls: type) -> Iterator[Key]:
    hints, meanings = typing.get_type_hints(cls), _meanings(cls)
    for field in fields(cls):
        if prefix and is_dataclass(hints[field.name]):
            yield from _keys(f"{prefix}{field.name}.", hints[field.name])
        elif not is_dataclass(hints[field.name]):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            shown = "" if default is MISSING else json.dumps(default)
            yield Key(prefix + field.name, _in_words(hints[field.name]), shown, meanings.get(field.name, ""))


def _meanings(cls: type) -> dict[str, str]:
    """Return what the `Attributes` sections of a class and those that it inherits from say of each field."""
    found = {}
    for each in reversed(cls.__mro__):
        for section in Docstring(inspect.cleandoc(each.__doc__ or "")).parse("numpy", warnings=False):
            if section.kind is DocstringSectionKind.attributes:
                found |= {attribute.name: " ".join(attribute.description.split()) for attribute in section.value}
    return found


def _in_words(hint: Any) -> str:
    """Return the type of a YAML value.

    >>> _in_words(tuple[float, ...]), _in_words(str | None), _in_words(dict[str, Any])
    ('list of float', 'str or null', 'mapping')
    """
    if typing.get_origin(hint) is types.UnionType:
        return " or ".join(dict.fromkeys(map(_in_words, typing.get_args(hint))))
    if typing.get_origin(hint) is tuple:
        return f"list of {_in_words(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) is dict or is_dataclass(hint):
        return "mapping"
    return "null" if hint is type(None) else hint.__name__


def commands_page() -> str:
    """Return the reference of all commands as Markdown."""
    return "\n\n".join(block for name, command in commands() for block in _command(name, command))


def _command(name: str, command: TyperCommand | TyperGroup) -> Iterator[str]:
    """Yield the blocks of a command: what it does, examples, usage, arguments and options."""
    context = typer.Context(command, info_name=name, **command.context_settings)
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    examples = [each for each in paragraphs if all(re.search(r"(^|\| )asr ", line) for line in each.splitlines())]
    yield f"## {name}"
    yield from (each for each in paragraphs if each not in examples)
    yield from (f"```bash\n{each}\n```" for each in examples)
    yield f"```text\nUsage: {' '.join([name, *command.collect_usage_pieces(context)])}\n```"
    for kind in ("argument", "option"):
        found = [each for each in command.get_params(context) if each.param_type_name == kind]
        yield from _table((kind, "meaning", "default"), [_parameter(each, context) for each in found])


def _parameter(parameter: TyperArgument | TyperOption, context: typer.Context) -> tuple[str, ...]:
    """Return the cells of a parameter's row, from the columns that --help has for it."""
    names, text = parameter.get_help_record(context)
    meaning, limits = re.fullmatch(r"(.*?)(?:\s*\[(.*)\])?", text, re.DOTALL).groups()
    default = re.sub(r"^default: \(?(.*?)\)?(?=;|$)", r"\1", limits or "")
    return f"`{names}`", meaning, html.escape(default, quote=False)


def configuration_page() -> str:
    """Return the reference of all settings as Markdown."""
    head = ("key", "type", "default", "meaning")
    blocks = []
    for heading, keys in settings().items():
        rows = [(f"`{key.name}`", key.type, f"`{key.default}`" if key.default else "", key.meaning) for key in keys]
        blocks += [f"## {heading}", *_table(head, rows)]
    return "\n\n".join(blocks)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return a table, or nothing where it has no rows."""
    lines = [head, ("---",) * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)] if rows else []


class HouseStyle(Extension):
    """What griffe, which reads docstrings for the site, does not take from them by itself."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Fence a docstring's sessions; give parameters that share a description one each."""
        if obj.docstring is None:
            return
        text, heading, examples = inspect.cleandoc(obj.docstring.value).partition("\nExamples\n---")
        text = re.sub(r"(?m)^>>> (?:.+\n?)+", lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)
        obj.docstring.value = (
            re.sub(r"(?m)^(\w+(?:, \w+)+)( : .*)?\n((?: {4}.*\n?)+)", _apart, text) + heading + examples
        )


def _apart(found: re.Match) -> str:
    r"""Repeat the description of several parameters for each: griffe gives all the type and default of the first.

    >>> _apart(re.match(r"(.*)( : .*)\n(.*)", "low, high : int\n    Bounds."))
    'low : int\n    Bounds.\nhigh : int\n    Bounds.\n'
    """
    names, kind, description = found.groups()
    return "".join(f"{name}{kind or ''}\n{description.rstrip()}\n" for name in names.split(", "))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not stand in docs/."""
    for path in sorted(path for pattern in BESIDE for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what the program declares, and make links that work in a checkout lead to pages of the site."""
    for name, make in (("commands", commands_page), ("configuration", configuration_page)):
        if (marker := f"<!-- {name} -->") in markdown:
            markdown = markdown.replace(marker, make())
    markdown = markdown.replace("```python\n>>>", "```pycon\n>>>")
    return LINK.sub(lambda link: link[1] + site_link(link[2], page.file.src_uri) + link[3], markdown)


def site_link(link: str, page: str) -> str:
    """Return where a relative link of a page leads to on the site.

    >>> site_link("../../recipes/mini", "theory/hmm.md")
    '../recipes/mini/README.md'
    >>> site_link("../../docs/theory/hmm.md", "recipes/mini/README.md")
    '../../theory/hmm.md'
    """
    source = PurePosixPath(page) if (ROOT / page).is_file() else PurePosixPath("docs", page)
    target = PurePosixPath(os.path.normpath(source.parent / link))
    if (ROOT / target).is_dir():
        target /= "README.md"
    if target == PurePosixPath("README.md"):
        target = PurePosixPath("docs/index.md")
    if target.parts[0] == "docs":
        target = PurePosixPath(*target.parts[1:])
    return os.path.relpath(target, PurePosixPath(page).parent)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would fetch anything from elsewhere.

    Raises
    ------
    PluginError
        It names a script, style sheet, picture or font on another server.
    """
    if remote := re.search(r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^>]*>""", output):
        raise PluginError(f"{page.file.src_uri} needs the network: {remote[0]}")
    return output
