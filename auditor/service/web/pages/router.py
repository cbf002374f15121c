"""Every page, behind one router."""

from fastapi import APIRouter

from auditor.service.web.pages import audits, badge, catalogue, dashboard, session

router = APIRouter(include_in_schema=False)
for _each in (dashboard, audits, badge, catalogue, session):
    router.include_router(_each.router)
