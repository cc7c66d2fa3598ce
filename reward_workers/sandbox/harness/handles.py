"""Objects that stay in the candidate's process, while the tester holds their numbers."""

from reward_workers.sandbox.harness.plain import MAX_HANDLES, Handle, NotPlain, Value, class_name


class Handles:
    """One candidate's objects, kept alive, each under one number."""

    def __init__(self) -> None:
        self._objects: list[object] = []
        self._numbers: dict[int, int] = {}

    def give(self, value: object) -> Handle:
        """The object's handle, the same one each time.

        Raises:
            NotPlain: there are too many.
        """
        number = self._numbers.get(id(value))
        if number is None:
            number = len(self._objects)
            if number >= MAX_HANDLES:
                raise NotPlain(f"there are {MAX_HANDLES} objects already")
            self._objects.append(value)
            self._numbers[id(value)] = number
        return Handle(number, class_name(type(value)))

    def take(self, handle: Handle) -> Value:
        """The object itself."""
        return self._objects[handle.number]
