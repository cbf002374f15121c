"""Every page, behind one router."""

from fastapi import APIRouter

from auditor.service.web.pages import audits, badge, catalogue, dashboard, queue, reports, session, start

router = APIRouter(include_in_schema=False)
for _each in (dashboard, start, audits, reports, queue, badge, catalogue, session):
    router.include_router(_each.router)
