"""What the site needs beyond mkdocs.yml: files of the repository that pages link to come with it.

A page may link to `../examples/grafana/fedmqtt.json`, which is right where the repository is read.
In the site that file lies at `repository/examples/grafana/fedmqtt.json`, as it is.

A tutorial names each file and terminal in a line before its block, for GitHub, which shows no
titles.
"""

import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_BESIDE: Final = "repository"
# Of a page that lies `(../)*` below docs/, to what lies outside it.
_LINK: Final = re.compile(r"\]\((?P<up>(?:\.\./)+)(?P<path>[^)#\s]+)")

# The site shows a block's title itself.
_LABEL: Final = re.compile(r"^\*(?:File|Terminal): [^*\n]*\*\n\n(?=```.* title=)", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside docs/."""
    root = Path(config.docs_dir).parent
    outside = {path for file in files.documentation_pages() for path in _outside(file)}
    for path in sorted(outside):
        if (root / path).is_file():
            copy = f"{_BESIDE}/{path}" + (".txt" if path.endswith((".md", ".py")) else "")
            files.append(File.generated(config, copy, content=(root / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to such files at where they lie in the site; say the titles of blocks once."""
    below = page.file.src_uri.count("/")

    def there(link: re.Match[str]) -> str:
        if link["up"].count("../") <= below:
            return link[0]
        plain = ".txt" if link["path"].endswith((".md", ".py")) else ""
        return f"]({'../' * below}{_BESIDE}/{link['path']}{plain}"

    return _LINK.sub(there, _LABEL.sub("", markdown))


def _outside(file: File) -> set[str]:
    below = file.src_uri.count("/")
    found = _LINK.finditer(file.content_string)
    return {link["path"] for link in found if link["up"].count("../") > below}
