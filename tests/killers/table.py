"""The verdict on every cell, and the page of the docs made of them."""

import re
import warnings
from pathlib import Path

import slq
from tests.killers.functions import Runs

PAGE = Path(__file__).parent.parent.parent / "docs" / "killers.md"
N = 40
RIGHT, WARNED, REFUSED = "right", "warned", "refused"
SPOKEN = (ValueError, TypeError, slq.RunError)


class WrongCell(AssertionError):
    """A number that is wrong without a word, or a word that does not name the cause."""


def verdict(function, input_, n=N, runs=None):
    """Return "right", "warned" or "refused"; raise `WrongCell` where the cell is none of them."""
    case = input_.make(n)
    words = "|".join(filter(None, (input_.words, function.words)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            if function.of_spectrum:
                for run in runs or Runs(input_, n):
                    case = input_.make(n)
                    function.run(case, run)
            else:
                function.run(case)
        except SPOKEN as error:
            found, message = REFUSED, str(error)
        except AssertionError as error:
            found, message = WARNED if told else None, str(error)
        else:
            found, message = WARNED if told else RIGHT, ""
    for warning in told:
        if found is REFUSED and issubclass(warning.category, RuntimeWarning):
            continue  # NumPy's, of the product that is refused
        if not issubclass(warning.category, slq.SlqWarning):
            msg = f"a {warning.category.__name__} from inside: {warning.message} ({warning.filename}:{warning.lineno})"
            raise WrongCell(msg)
        message = str(warning.message)
        if not (words and re.search(words, message)):
            msg = f"the warning does not name the cause: {message}"
            raise WrongCell(msg)
    if found is None:
        raise WrongCell(message)
    if found is REFUSED and not (words and re.search(words, message)):
        msg = f"the error does not name the cause: {message}"
        raise WrongCell(msg)
    return found
