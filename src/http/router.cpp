#include "http/router.hpp"

#include <optional>

#include "base/text.hpp"

namespace imagecache::http {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<PathParameters> match(const std::vector<std::string>& pattern, const std::vector<std::string>& path) {
  if (pattern.size() != path.size()) return std::nullopt;
  PathParameters parameters;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i].starts_with('{')) {
      if (path[i].empty()) return std::nullopt;
      parameters[pattern[i].substr(1, pattern[i].size() - 2)] = percent_decode(path[i]);
    } else if (pattern[i] != path[i]) {
      return std::nullopt;
    }
  }
  return parameters;
}

base::Task<void> refuse(Exchange& exchange, Response response) {
  static_cast<void>(co_await exchange.respond(std::move(response)));
}

}  // namespace

void Router::add(std::string method, std::string_view pattern, RouteHandler handler) {
  routes_.push_back({std::move(method), base::split(pattern, '/'), std::move(handler)});
}

void Router::otherwise(RouteHandler handler, bool also_wrong_methods) {
  otherwise_ = std::move(handler);
  otherwise_takes_wrong_methods_ = also_wrong_methods;
}

base::Task<void> Router::handle(Exchange& exchange) const {
  const auto segments = base::split(exchange.path(), '/');
  std::string allowed;
  for (const Route& route : routes_) {
    auto parameters = match(route.segments, segments);
    if (!parameters) continue;
    if (route.method == exchange.method()) {
      co_await route.handler(exchange, *parameters);
      co_return;
    }
    if (allowed.find(route.method) == std::string::npos) allowed += (allowed.empty() ? "" : ", ") + route.method;
  }
  if (otherwise_ && (allowed.empty() || otherwise_takes_wrong_methods_)) {
    co_await otherwise_(exchange, PathParameters());
    co_return;
  }
  Response response;
  response.status = allowed.empty() ? 404 : 405;
  response.headers.emplace_back("Content-Type", "text/plain; charset=UTF-8");
  if (!allowed.empty()) response.headers.emplace_back("Allow", allowed);
  response.body = allowed.empty() ? "404 Not Found\n" : "405 Method Not Allowed\n";
  co_await refuse(exchange, std::move(response));
}

std::string percent_decode(std::string_view text) {
  if (text.find('%') == std::string_view::npos) return std::string(text);
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
      decoded += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

PathParameters parse_query(std::string_view query) {
  PathParameters parameters;
  if (query.empty()) return parameters;
  for (std::string part : base::split(query, '&')) {
    for (char& c : part) {
      if (c == '+') c = ' ';
    }
    const auto equals = part.find('=');
    const std::string name = percent_decode(std::string_view(part).substr(0, equals));
    if (name.empty()) continue;
    parameters[name] = equals == std::string::npos ? "" : percent_decode(std::string_view(part).substr(equals + 1));
  }
  return parameters;
}

}  // namespace imagecache::http
