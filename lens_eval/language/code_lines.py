"""Lines outside a fence that are code, data or a machine's message, and what of them is text after all."""

from __future__ import annotations

import re

LONGEST = 1000
"""A longer line is none of these: so each look stays linear."""
# A key of JSON or YAML and its value; a value in words is text of the reply.
_JSON_KEY = re.compile(r"([{,]\s*|^\s*)([\"'])([A-Za-z_][\w -]{0,60})\2\s*:", re.ASCII)
_JSON_SIGNS = str.maketrans("{}[]", "    ")
_YAML_LINE = re.compile(
    r"^\s*(?:-\s+)?([a-z][a-z0-9]*(?:[_-][a-z0-9]+)*|[a-z]+(?:[A-Z][a-z0-9]*)+):(?=\s|$)", re.ASCII
)
_SQL = re.compile(
    r"\s*(?:SELECT\b.*|INSERT\s+INTO\b.*|UPDATE\s+\w+\s+SET\b.*|DELETE\s+FROM\b.*|CREATE\s+(?:TABLE"
    r"|INDEX|VIEW)\b.*|"
    r"ALTER\s+TABLE\b.*|DROP\s+TABLE\b.*|FROM\s+\w[\w.,\s]*|WHERE\s.*[=<>].*|GROUP\s+BY\b.*|ORDER\s+BY\b.*|"
    r"(?:INNER|LEFT|RIGHT|OUTER|FULL|CROSS)?\s*JOIN\s.*|HAVING\s.*|LIMIT\s+\d+.*|VALUES\s*\(.*"
    r"|AND\s.*[=<>].*|"
    r"OR\s.*[=<>].*|ON\s.*=.*|UNION(?:\s+ALL)?)\s*;?\s*"
)
_SQL_LOWER = re.compile(
    r"\s*(?:select\s.+\sfrom\s.+|insert\s+into\s.+|update\s+\w+\s+set\s.+=.+|delete\s+from\s+\w+.*;"
    r"|create\s+table\s.+[(].*)\s*"
)
_IMPORT = re.compile(
    r"\s*(?:from\s+[\w.]+\s+import\s+[\w*,. ()]+"
    r"|import\s+[\w.]+(?:\s+as\s+\w+)?(?:\s*,\s*[\w.]+(?:\s+as\s+\w+)?)*;?"
    r"|import\s+.*\s+from\s+['\"][^'\"]+['\"];?|import\s+(?:\(|['\"<].*)|#!/.*|<\?php.*|\?>|#include\s*[<\"].*|using\s+[\w.]+;|require\s*\(.*\);?"
    r"|package\s+[\w.]+;?|use\s+[\w:]+(?:::\{.*\})?;)\s*"
)
_ERROR = re.compile(
    r"\s*(?:Traceback \(most recent call last\):|File \"[^\"]*\", line \d+.*"
    r"|(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Warning)\b.*"
    r"|Error: .*(?:(['\"])[^'\" ]+\1|\w\(|/\w|\d).*"
    r"|(?:fatal|error|warning)(?:\[\w+\])?: .*|\s*at [\w.$<>]+\([^()]*\)|npm ERR!.*|E\s{2,}.*"
    r"|Segmentation fault.*|Exception in thread .*"
    r"|(?:Uncaught|Unhandled)(?: \(in promise\))? \w*(?:Error|Exception)\b.*"
    r"|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S* .*\b(?:ERROR|WARN|WARNING|INFO|DEBUG|FATAL|TRACE)\b.*"
    r"|(?:bash|sh|zsh): .*: .*|[\w./-]+:\d+(?::\d+)?: (?:error|warning|note): .*|(?:ERROR|WARN"
    r"|WARNING|INFO|DEBUG)\b[ :\[].*)"
)
_COMMENT = re.compile(
    r"\s*(?:(?://|#(?!#)|--|/\*|\*/|;;|%)\s*\S.*|/\*+|\*+/|[\"']{3}.*|.*[\"']{3})"
    r"|\s+\*\s.*|\[[\w .:-]{1,60}\]\s*"
)
# Inside a block of code: set in, and no sentence.
_SET_IN = re.compile(r"(?:\t| {2,})(?![\"']|[-*+•]\s|\d+[.)]\s)[ -~]*[^.!?\s:]\s*")
_SHELL = re.compile(
    r"\s*(?:\$|>>>|\.\.\.|In \[\d+\]:|>) ?(?:pip|python\d?|git|npm|cd|ls|sudo|apt|docker|curl|conda|make)\b.*"
)
_COMMAND = re.compile(
    r"\s*(?:(?:FROM [\w./-]+(?::\S+)?(?: AS \w+)?|WORKDIR /\S*"
    r"|(?:COPY|ADD|RUN|CMD|ENTRYPOINT|EXPOSE|ENV|ARG) \S.*)$"
    r"|export [A-Z_]+=|pip3? install|python3? -m|git (?:clone|add|commit|push|pull|checkout)|npm (?:install"
    r"|run)|sudo |apt(?:-get)? install"
    r"|docker (?:run|build|pull)|conda (?:install|create)|curl -|cd [\w./~-]+$).*"
)
# Most lines begin with none of these: one look instead of six.
_BEGINS = re.compile(
    r"\s*(?:from\b|import\b|using\b|require|package\b|use\b|#include|SELECT|INSERT|UPDATE|DELETE"
    r"|CREATE|ALTER|DROP|FROM\b"
    r"|WHERE|GROUP|ORDER|INNER|LEFT|RIGHT|OUTER|FULL|CROSS|JOIN|HAVING|LIMIT|VALUES|AND\b|OR\b|ON\b"
    r"|UNION|select\b|insert\b"
    r"|update\b|delete\b|create\b|Traceback|File|[\w.]*(?:Error|Exception|Warning|error|warning"
    r"|fatal)|at |npm|E\s\s|Segm|bash|sh:"
    r"|zsh|[\w./-]+:\d|WARN|INFO|DEBUG|ERROR|\$|>|\.\.\.|In \[|pip|python|git |sudo|apt|docker"
    r"|conda|curl|cd |#!|<\?php|\?>|Exc|Unc|Unh|\[?\d{4}-"
    r"|WORKDIR|COPY|ADD|RUN|CMD|ENTRYPOINT|EXPOSE|ENV|ARG|export )"
)


def machine_line(line: str) -> bool:
    """Return whether a line is SQL, an import, a command or a message of a program."""
    return (
        len(line) <= LONGEST
        and bool(_BEGINS.match(line))
        and any(pattern.fullmatch(line) for pattern in (_IMPORT, _SQL, _SQL_LOWER, _ERROR, _SHELL, _COMMAND))
    )


def comment(line: str) -> bool:
    """Return whether a line looks like a comment of a program; beside code it is one."""
    return len(line) <= LONGEST and bool(_COMMENT.fullmatch(line))


def without_keys(text: str) -> str:
    """Return text without the keys of JSON, and of YAML where several lines in a row have one."""
    if '":' in text or '" :' in text or "':" in text:
        text = "\n".join(map(_without_json_keys, text.split("\n")))
    if text.count(":") < 2:
        return text
    lines = text.split("\n")
    keyed = [bool(_YAML_LINE.match(line)) for line in lines]
    for at, line in enumerate(lines):
        beside = (at and keyed[at - 1]) or (at + 1 < len(lines) and keyed[at + 1])
        if keyed[at] and beside:
            lines[at] = _YAML_LINE.sub(" ", line)
    return "\n".join(lines)


def _without_json_keys(line: str) -> str:
    """Return a line without its keys, and without the brackets that would make its values code."""
    left, keys = _JSON_KEY.subn(" ", line)
    return left.translate(_JSON_SIGNS) if keys else line


def code_beside(lines: list[str], code: list[bool]) -> list[bool]:
    """Return which lines are code when comments and set-in lines next to code are counted as code too."""
    for order in (range(1, len(lines)), range(len(lines) - 2, -1, -1)):
        step = -1 if order.step > 0 else 1
        for at in order:
            code[at] = code[at] or (code[at + step] and (comment(lines[at]) or _set_in(lines[at])))
    return code


def _set_in(line: str) -> bool:
    return len(line) <= LONGEST and bool(_SET_IN.fullmatch(line))


_SMALL_WORDS = (
    "a about after against al am an and as at aus aux before between but by da das de degli dei del della "
    "der des di die do dos down du e een ein eine el et for from gli i il im in into is it la las le les "
    "lo los my nor not of off on onto or out over su than the through to um un una und under up van vs "
    "when with without y your zum zur"
)
_SMALL = frozenset(_SMALL_WORDS.split())
_LISTED = re.compile(r"\s*(?:[-*+•‣▪●◦–—]|\(?\d{1,4}[.):]|[*_\"“«‘]{1,3})[\s*_\"“«‘]*(?=\w)")
_TITLE_END = re.compile(r"\s*(?:[*_\"”»’]+\s*)?(?:\(\d{4}(?:[–-]\d{2,4})?\)|[-–—:|]\s|[*_\"”»’]{1,3}|$)")
_CITED = re.compile(
    r"\s*(?:\[\d+\]|[-*•]"
    r"|\d+[.)])?\s*[A-Z][\w'’-]+,\s(?:[A-Z]\.[\s,-]*)+.{0,300}\(?\d{4}[a-z]?\)?.*"
)
_NUMBERED_SOURCE = re.compile(r"\s*\[\d{1,3}\]\s+[A-Z].{10,400}\b(?:19|20)\d\d\b.{0,40}")
_DOI = re.compile(r"\bdoi:\s?10\.")
_BRACKETS = re.compile(r"[(（\[]([^()（）\[\]]{1,80})[)）\]]")
BRACKETED_WORDS = 5


def is_citation(line: str) -> bool:
    """Return whether a line is an entry of a list of references."""
    if len(line) > LONGEST:
        return False
    if "doi:" in line and _DOI.search(line):
        return True
    return bool(_CITED.fullmatch(line) or ("[" in line and _NUMBERED_SOURCE.fullmatch(line)))


def without_title(line: str) -> str:
    """Return an item of a list without the title that it begins with: words with capitals, `of`, `the`."""
    mark = _LISTED.match(line)
    if not mark:
        return line
    place, words = mark.end(), 0
    for word in re.finditer(r"[^\W\d_][\w'’.&-]*|&|\d+", line[mark.end() : mark.end() + 160]):
        between = line[place : mark.end() + word.start()]
        if between.strip(" ,:!'’"):
            break
        text = word[0]
        if not (text[0].isupper() or text in _SMALL or text == "&" or text[0].isdigit()):
            break
        place, words = mark.end() + word.end(), words + 1
    if words < 2 or not _TITLE_END.match(line, place):
        return line
    return line[place:]


def without_brackets(line: str) -> str:
    """Return a line without short terms in brackets, if there are words outside them."""
    if "(" not in line and "[" not in line and "（" not in line:
        return line
    left = _BRACKETS.sub(lambda m: " " if len(m[1].split()) <= BRACKETED_WORDS else m[0], line)
    return left if sum(map(str.isalpha, left)) * 2 > sum(map(str.isalpha, line)) else line
