"""Amounts that can be compared: the sizes of a gram, and tablets by what is in one of them. Exact throughout."""

from fractions import Fraction

from app.domain.regimens import Amount, Content

_SIZES = {
    "g": ("mg", Fraction(1000)),
    "mg": ("mg", Fraction(1)),
    "ug": ("mg", Fraction(1, 1000)),
    "mg/h": ("ug/h", Fraction(1000)),
    "mg/(24.h)": ("ug/h", Fraction(1000, 24)),
    "ug/h": ("ug/h", Fraction(1)),
}
_IN_ML = {"mg/mL": "mg", "ug/mL": "ug", "[IU]/mL": "[IU]"}
_NO_UNIT_OF = frozenset({"%", "mg/g", *_IN_ML})  # strengths that do not say what is in one piece
_FORMS = {
    "{tablet}": {"tablet", "extended_release_tablet", "orodispersible_tablet", "sublingual_tablet"},
    "{capsule}": {"capsule", "extended_release_capsule"},
    "{lozenge}": {"lozenge"},
    "{sachet}": {"sachet"},
    "{patch}": {"patch"},
    "{suppository}": {"suppository"},
    "{spray}": {"spray"},
    "{puff}": {"inhaler"},
    "{injection}": {"injection"},
}


def converted(amount: Amount, content: Content | None) -> tuple[str, Fraction]:
    """The amount in the unit of all that it can be compared with: mg, ug/h, or else its own.

    What is counted, or measured in mL, becomes what is in it, where the medicine has one ingredient whose strength
    says so.
    """
    value = Fraction(str(amount.value))
    inside = content and _inside(amount.unit, content)
    if inside:
        unit, each = converted(inside, None)
        return unit, value * each
    unit, size = _SIZES.get(amount.unit, (amount.unit, Fraction(1)))
    return unit, value * size


def ratio(amount: Amount, dose: Amount, content: Content | None) -> Fraction | None:
    """How many such doses the amount is; None where the two cannot be compared."""
    unit, value = converted(amount, content)
    dose_unit, dose_value = converted(dose, content)
    return value / dose_value if unit == dose_unit else None


def _inside(unit: str, content: Content) -> Amount | None:
    """What is in one of this unit, where the strength tells."""
    strength = content.strength
    if unit == "mL" and strength.unit in _IN_ML:
        return Amount(strength.value, _IN_ML[strength.unit])
    counted = unit in _FORMS and (content.form is None or content.form in _FORMS[unit])
    return strength if counted and strength.unit not in _NO_UNIT_OF else None
