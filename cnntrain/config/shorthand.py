"""Short ways to write a part that is chosen by its name.

`horizontal_flip`, `horizontal_flip: {probability: 0.3}` and
`{name: horizontal_flip, probability: 0.3}` all mean the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Union

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, eq=False)  # eq would ask for a hash of the mappings
class Shorthand:
    """Annotates a section, or a union of sections told apart by `name`.

    Args:
        default: The name meant by a mapping that has none.
        spoken: Other ways to write names, in upper or lower case.
        main_keys: For names whose main value may stand alone (`dropout: 0.5`), the key that it is for.
        spoken_keys: Other ways to write keys.
    """

    default: str | None = None
    spoken: Mapping[str, str] = field(default_factory=dict)
    main_keys: Mapping[str, str] = field(default_factory=dict)
    spoken_keys: Mapping[str, str] = field(default_factory=dict)

    def expand(self, value: Any) -> Any:
        """The long form of a part: a mapping with its name and the names of its keys."""
        value = self._with_name(value)
        if not isinstance(value, dict):
            return value
        return {key if (known := self.spoken_keys.get(key)) in (None, *value) else known: v for key, v in value.items()}

    def _with_name(self, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": self._name(value)}
        if not isinstance(value, dict):
            return value
        if "name" in value:
            return {**value, "name": self._name(value["name"])}
        if len(value) == 1:
            [(key, inner)] = value.items()
            name = self._name(key)
            if isinstance(inner, dict):
                return {"name": name, **inner}
            if name in self.main_keys and inner is not None:
                return {"name": name, self.main_keys[name]: inner}
            if inner is None and not self.default:  # `- random_crop:` with nothing behind the colon
                return {"name": name}
        return {"name": self.default, **value} if self.default else value

    def _name(self, written: Any) -> Any:
        known = {word.casefold(): name for word, name in [*self.spoken.items(), *((n, n) for n in self.main_keys)]}
        return known.get(written.casefold(), written) if isinstance(written, str) else written

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.expand, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        long_form = handler(schema)
        if "discriminator" in long_form:
            parts: dict[str, Any] = {name: {"$ref": ref} for name, ref in long_form["discriminator"]["mapping"].items()}
        else:
            parts = {str(self.default): long_form}
        alone = {"type": ["number", "array"]}  # a main value; what it may be in detail, the section says
        inner = {
            name: part if self.default else {"anyOf": [part, {"type": "null"}, *[alone] * (name in self.main_keys)]}
            for name, part in parts.items()
        }
        # What other libraries write there is left to the program to check.
        inner |= {word: {"type": ["object", "array", "number", "null"]} for word in self.spoken}
        short_form: dict[str, Any] = {"type": "object", "properties": inner, "additionalProperties": False}
        short_form |= {"minProperties": 1, "maxProperties": 1}
        nameless = [parts[self.default]] if self.default else []
        return {"anyOf": [{"enum": list(inner)}, short_form, *nameless, long_form]}


def choice_of(sections: Iterable[type], shorthand: Shorthand) -> Any:
    """The type of a part that is one of several sections, told apart by `name`.

    Args:
        sections: The table of a kind: an options class for each thing that can be built.
        shorthand: How else it may be written.
    """
    return Annotated[Union[tuple(sections)], Field(discriminator="name"), shorthand]  # noqa: UP007 (made at run time)
