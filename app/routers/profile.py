"""The profile: what is to be known of the patient to read the diary right. There is one, and it stays."""

from fastapi import APIRouter, Response

from app.http import record_responses as answers
from app.http import validation
from app.http.deps import BaseVersion, Cursor, DiaryOf, DiaryToWrite, Limit
from app.schemas.profile import ProfileFields, ProfileOut, ProfilePatch, ProfileVersionPage
from app.services import records
from app.services.profile import PROFILE

router = APIRouter(prefix="/v1/patients/{patient_id}/profile", tags=["profile"])


@router.post("", summary="Make the profile", **answers.creating(ProfileOut))
async def create_profile(diary: DiaryToWrite, body: ProfileFields) -> Response:
    """Stores the patient's profile, once; its id is the patient's, and its birth date becomes theirs."""
    return answers.created(diary, "profile", await records.create(PROFILE, diary, str(diary.patient_id), body))


@router.get("", summary="Read the profile", **answers.reading(ProfileOut))
async def read_profile(diary: DiaryOf) -> Response:
    """The profile as it is now; 404 until there is one."""
    return answers.stored(await records.read(PROFILE, diary, diary.patient_id))


@router.put("", summary="Replace the profile", **answers.replacing(ProfileOut))
async def replace_profile(diary: DiaryToWrite, base_version: BaseVersion, body: ProfileFields) -> Response:
    """Puts new content in the place of the version that If-Match names."""
    return answers.stored(await records.replace(PROFILE, diary, diary.patient_id, base_version, body))


@router.patch("", summary="Change the profile", **answers.revising(ProfileOut, ProfilePatch))
async def revise_profile(diary: DiaryToWrite, base_version: BaseVersion, body: ProfilePatch) -> Response:
    """A merge patch (RFC 7396): a new weight, say. What is absent stays, null removes."""
    patch = body.model_dump(mode="json", exclude_unset=True)
    stored = await records.revise(PROFILE, diary, diary.patient_id, base_version, patch, validation.validated)
    return answers.stored(stored)


@router.get("/versions", summary="Read the profile's history", **answers.tracing(ProfileVersionPage))
async def list_profile_versions(diary: DiaryOf, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Every version with its author, device and time, newest first."""
    return answers.history(await records.read_versions(PROFILE, diary, diary.patient_id, limit, cursor))
