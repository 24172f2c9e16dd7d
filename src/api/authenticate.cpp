#include "api/authenticate.hpp"

namespace imagecache::api {

base::Task<Result<base::RequestContext>> authenticate(const identity::Authenticator& authenticator,
                                                      base::BlockingPool& pool, const http::Exchange& exchange) {
  const identity::Presented presented{.auth_token = exchange.header("X-Auth-Token"),
                                      .request_id = exchange.header("X-Openstack-Request-Id"),
                                      .service_token = exchange.header("X-Service-Token")};
  if (!authenticator.blocks()) co_return authenticator.authenticate(presented);
  if (auto known = authenticator.remembered(presented)) co_return std::move(*known);
  // The pool has texts of its own, since its work goes on when this Task is gone.
  auto ask = [&authenticator, token = std::string(presented.auth_token), id = std::string(presented.request_id),
              service = std::string(presented.service_token)] {
    return authenticator.authenticate({.auth_token = token, .request_id = id, .service_token = service});
  };
  co_return co_await base::offload(pool, std::move(ask));
}

}  // namespace imagecache::api
