// One request on its way through the room: what every handler is given, and the frame around each: who asks, in which
// version, with which body; and, whatever happens, one answer.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "api/context.hpp"
#include "api/errors.hpp"
#include "api/microversion.hpp"
#include "base/request_context.hpp"
#include "base/task.hpp"
#include "http/router.hpp"

namespace imagecache::api {

/// Lives in the frame's Task, until the handler's Task has ended.
struct Call {
  ApiContext& api;
  http::Exchange& exchange;
  http::PathParameters path;
  http::PathParameters query;
  base::RequestContext who;
  Microversion version;
  bool project_in_url = false;
  std::string body;  ///< of POST and PUT, whole

  /// The pattern's {name}; empty if the pattern has none of that name.
  const std::string& parameter(std::string_view name) const;
  /// "http://host:port", without a slash at its end: the public endpoint, or what the client called us.
  std::string base_url() const;
};

using CallHandler = base::Task<Reply> (*)(Call& call);

/// Does the policy allow it to the caller, of what is `project`'s (empty: his own)? A 403 in Cinder's words if not.
/// Whether another project's volume is there for him at all is another question (volume_lookup.hpp).
std::optional<Reply> refused_by_policy(const Call& call, std::string_view rule, std::string_view project = {});

/// A route of the Block Storage API: `pattern` ("/volumes/{volume_id}") is added under /v3/{project_id} and under /v3.
/// Negotiates the version, authenticates, refuses a project in the path that is not the caller's and whom the policy's
/// `rule` does not allow (empty: the handler asks), reads the body of a POST or PUT. `since` hides the route from older
/// versions. `rule` is a literal.
void add_v3_route(http::Router& router, ApiContext& api, std::string_view method, std::string_view pattern,
                  CallHandler handler, std::string_view rule, Microversion since = oldest_version);

/// A route outside /v3: authenticates, reads the body. Failures of the frame are shaped by `shape`.
using ErrorShape = Reply (*)(const Error& error);
void add_plain_route(http::Router& router, ApiContext& api, std::string_view method, std::string_view pattern,
                     CallHandler handler, ErrorShape shape);

/// A route that asks nobody who he is.
void add_open_route(http::Router& router, ApiContext& api, std::string_view method, std::string_view pattern,
                    CallHandler handler);

/// For what no route takes: Cinder's 404 or 405 fault.
void add_v3_otherwise(http::Router& router, ApiContext& api);

}  // namespace imagecache::api
