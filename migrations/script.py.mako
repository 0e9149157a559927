<%
files, older, removed = (context.get(name, {}) for name in ("installed", "replaced", "removed"))
dropped, made = (context.get(name, []) for name in ("gone", "come"))
%>"""${message}."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
% if files:
from migrations import install, restore
% endif

revision: str = ${repr(up_revision)}
down_revision: str | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}

SQL = {${"" if files else "}  # the files of app/models that it installs"}
% for name, digest in files.items():
    "${name}": "${digest}",
% endfor
% if files:
}
# What was there before, for the way down.
BEFORE = {
% for name, digest in older.items():
    "${name}": "${digest}",
% endfor
}
% endif
% if removed:
GONE = ${repr(removed)}
% endif


# Expand first: tables, then what uses them. Whoever takes a column away turns the order round, both ways.
def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
% for routine in dropped:
    op.execute("DROP FUNCTION ${routine}")
% endfor
% if files:
    install(SQL)
% endif


def downgrade() -> None:
% for routine in made:
    op.execute("DROP FUNCTION ${routine}")
% endfor
% if files:
    restore(BEFORE)
% endif
    ${downgrades if downgrades else "pass"}
