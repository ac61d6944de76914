"""The sheet of people: originals beside each release, and what each changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from withhold.evaluation.faces.results import Person, Version
from withhold.evaluation.report.pictures import Row, row


@dataclass(frozen=True, slots=True)
class ShownPerson:
    """One row of the sheet."""

    name: str
    facts: str
    row: Row


@dataclass(frozen=True, slots=True)
class Sheet:
    """The whole sheet.

    Attributes:
        views: What the dialog can show alone: a key for the script, and its title.
        versions: Releases beside each original.
    """

    people: tuple[ShownPerson, ...]
    views: tuple[tuple[str, str], ...]
    versions: int


def sheet(people: Sequence[Person]) -> Sheet | None:
    """Arrange the pictures; None if there are none."""
    if not people:
        return None
    return Sheet(tuple(map(_person, people)), _views(people[0].versions), len(people[0].versions))


def level(largest: float) -> str:
    """Write a change of a channel value as a fraction of the range.

    >>> level(8.0)
    '8/255'
    """
    return f"{largest:g}/255"


def _person(person: Person) -> ShownPerson:
    several = len(person.versions) > 1
    titled = [("Original", person.original)]
    titled += [(f"{each.release}, {level(each.largest)}", each.picture) for each in person.versions]
    for each in person.versions:
        of = f", {each.release}" if several else ""
        titled.append((f"Difference \u00d7 {person.magnified:g}{of}", each.difference))
    changes = ", ".join(f"{each.release} {level(each.largest)}" for each in person.versions)
    return ShownPerson(person.identity, f"{person.name} · largest change: {changes}", row(titled))


def _views(versions: Sequence[Version]) -> tuple[tuple[str, str], ...]:
    pictures = [(f"release{number}", each.release) for number, each in enumerate(versions, 1)]
    differences = [
        (f"difference{number}", f"Difference, {each.release}" if len(versions) > 1 else "Difference")
        for number, each in enumerate(versions, 1)
    ]
    return (("original", "Original"), *pictures, *differences)
