"""The profile: what is to be known of the patient to read the diary right. There is one, and it stays."""

from app.routers.records import Text, record_routes
from app.schemas.profile import PROFILE

router = record_routes(
    PROFILE,
    texts={
        "create": Text(
            "Make the profile",
            "Stores the patient's profile, once; its id is the patient's, and its birth date becomes theirs.",
        ),
        "read": Text(description="The profile as it is now; 404 until there is one."),
        "replace": Text(description="Puts new content in the place of the version that If-Match names."),
        "revise": Text(
            "Change the profile",
            "A merge patch (RFC 7396): a new weight, say. What is absent stays, null removes.",
        ),
    },
)
