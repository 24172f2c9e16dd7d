// The one question of who is calling, for every API of this room.
#pragma once

#include "base/blocking_pool.hpp"
#include "base/task.hpp"
#include "http/server.hpp"
#include "identity/identity.hpp"

namespace imagecache::api {

/// What the authenticator says of the request's tokens; where it must ask a server, it is asked on `pool`. All outlive
/// the Task.
base::Task<Result<base::RequestContext>> authenticate(const identity::Authenticator& authenticator,
                                                      base::BlockingPool& pool, const http::Exchange& exchange);

}  // namespace imagecache::api
