// Handlers of the management API run for admins only.
#pragma once

#include "api/call.hpp"

namespace imagecache::api {

template <base::Task<Reply> (*handler)(Call&)>
base::Task<Reply> for_admins(Call& call) {
  if (!call.who.is_admin) co_return management_error({Errc::forbidden, "the management API is for admins"});
  co_return co_await handler(call);
}

}  // namespace imagecache::api
