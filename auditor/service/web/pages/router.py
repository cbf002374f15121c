"""Every page, behind one router."""

from fastapi import APIRouter

from auditor.service.web.pages import badge, catalogue, session

router = APIRouter(include_in_schema=False)
for _each in (session, catalogue, badge):
    router.include_router(_each.router)
