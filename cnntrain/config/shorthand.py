"""Short ways to write a part that is chosen by its name.

`horizontal_flip`, `horizontal_flip: {probability: 0.3}` and
`{name: horizontal_flip, probability: 0.3}` all mean the same.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Shorthand:
    """Annotates a section, or a union of sections told apart by `name`.

    Args:
        default: The name meant by a mapping that has none.
    """

    default: str | None = None

    def expand(self, value: Any) -> Any:
        """The long form of a part: a mapping with its name."""
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, dict) or "name" in value:
            return value
        if len(value) == 1:
            [(key, inner)] = value.items()
            if isinstance(inner, dict):
                return {"name": key, **inner}
            if inner is None and not self.default:  # `- random_crop:` with nothing behind the colon
                return {"name": key}
        return {"name": self.default, **value} if self.default else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.expand, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        long_form = handler(schema)
        if "discriminator" in long_form:
            parts: dict[str, Any] = {name: {"$ref": ref} for name, ref in long_form["discriminator"]["mapping"].items()}
        else:
            parts = {str(self.default): long_form}
        inner = parts if self.default else {name: {"anyOf": [part, {"type": "null"}]} for name, part in parts.items()}
        short_form: dict[str, Any] = {"type": "object", "properties": inner, "additionalProperties": False}
        short_form |= {"minProperties": 1, "maxProperties": 1}
        nameless = [parts[self.default]] if self.default else []
        return {"anyOf": [{"enum": list(parts)}, short_form, *nameless, long_form]}
