// Which handler answers which method and path. Patterns are literal segments and {names}; a {name} takes one segment,
// percent-decoded. The first match in the order of adding wins; a path that matches with another method is 405 with
// Allow.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "http/server.hpp"

namespace imagecache::http {

using PathParameters = std::map<std::string, std::string, std::less<>>;
using RouteHandler = std::function<base::Task<void>(Exchange& exchange, const PathParameters& parameters)>;

class Router {
 public:
  void add(std::string method, std::string_view pattern, RouteHandler handler);
  /// Called where no pattern matches the path (or where no method does, if it wants that too).
  void otherwise(RouteHandler handler, bool also_wrong_methods = false);

  base::Task<void> handle(Exchange& exchange) const;

 private:
  struct Route {
    std::string method;
    std::vector<std::string> segments;
    RouteHandler handler;
  };
  std::vector<Route> routes_;
  RouteHandler otherwise_;
  bool otherwise_takes_wrong_methods_ = false;
};

/// "a=1&b=x%20y" → {a: "1", b: "x y"}; the last of a repeated name wins.
PathParameters parse_query(std::string_view query);
std::string percent_decode(std::string_view text);

}  // namespace imagecache::http
