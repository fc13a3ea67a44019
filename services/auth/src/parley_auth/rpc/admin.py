"""AdminService."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from parley.auth.v1 import admin_service_pb2 as pb
from parley.auth.v1 import admin_service_pb2_grpc
from parley_kit.context import current
from parley_kit.errors import Unauthenticated

from parley_auth.admin import Act, Admin
from parley_auth.convert_admin import from_page, page_after, to_account, to_audit_event, to_users_session

Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 20


class AdminService(admin_service_pb2_grpc.AdminServiceServicer):
    """People's accounts, for operators."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersResponse:
        """List accounts, newest first."""
        size = request.page_size or _PAGE
        found = await self._admin.accounts(_act(), request.email, from_page(request.page_token), size + 1)
        return pb.ListUsersResponse(
            accounts=[to_account(account) for account in found[:size]],
            next_page_token=page_after(found[size - 1].user.id) if len(found) > size else "",
        )

    async def ListUserSessions(
        self, request: pb.ListUserSessionsRequest, context: Context
    ) -> pb.ListUserSessionsResponse:
        """List a user's living sessions, newest first."""
        size = request.page_size or _PAGE
        found = await self._admin.sessions(_act(), uuid.UUID(request.user_id), from_page(request.page_token), size + 1)
        return pb.ListUserSessionsResponse(
            sessions=[to_users_session(session) for session in found[:size]],
            next_page_token=page_after(found[size - 1].id) if len(found) > size else "",
        )

    async def SignOutUser(self, request: pb.SignOutUserRequest, context: Context) -> pb.Account:
        """End every session of a user."""
        return to_account(await self._admin.sign_out(_act(request.reason), uuid.UUID(request.user_id)))

    async def DisableUser(self, request: pb.DisableUserRequest, context: Context) -> pb.Account:
        """Disable an account."""
        return to_account(await self._admin.disable(_act(request.reason), uuid.UUID(request.user_id)))

    async def EnableUser(self, request: pb.EnableUserRequest, context: Context) -> pb.Account:
        """Enable an account."""
        return to_account(await self._admin.enable(_act(request.reason), uuid.UUID(request.user_id)))

    async def SetUserRole(self, request: pb.SetUserRoleRequest, context: Context) -> pb.Account:
        """Give an account a role."""
        return to_account(await self._admin.set_role(_act(request.reason), uuid.UUID(request.user_id), request.role))

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Context) -> pb.ListAuditEventsResponse:
        """List what was done, newest first."""
        size = request.page_size or _PAGE
        target = uuid.UUID(request.target) if request.target else None
        found = await self._admin.events(target, from_page(request.page_token), size + 1)
        return pb.ListAuditEventsResponse(
            events=[to_audit_event(event) for event in found[:size]],
            next_page_token=page_after(found[size - 1].id) if len(found) > size else "",
        )


def _act(reason: str = "") -> Act:
    context = current()
    if context.principal is None:
        raise Unauthenticated("This call needs a token.")
    return Act(context.principal.subject, reason, context.request_id)
