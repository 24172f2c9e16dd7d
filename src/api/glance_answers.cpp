#include "api/glance_answers.hpp"

#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "api/errors.hpp"
#include "api/html.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

std::string_view title_of(unsigned status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 409:
      return "Conflict";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Request Entity Too Large";
    case 416:
      return "Request Range Not Satisfiable";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 507:
      return "Insufficient Storage";
    default:
      return "Internal Server Error";
  }
}

enum class Shape { html, json, plain };

/// How much `type` is wanted, 0 to 1000: the most specific range of the header that takes it in decides.
int wanted(std::string_view accept, std::string_view type) {
  const std::string_view major = type.substr(0, type.find('/'));
  int best = 0;
  int best_rank = 0;
  for (const auto& part : base::split(accept, ',')) {
    const auto pieces = base::split(part, ';');
    const std::string range = base::to_lower(base::trim(pieces.front()));
    int rank = 0;
    if (range == type) rank = 3;
    if (range == std::string(major) + "/*") rank = 2;
    if (range == "*/*") rank = 1;
    if (rank <= best_rank) continue;
    int quality = 1000;
    for (std::size_t i = 1; i < pieces.size(); ++i) {
      const std::string_view parameter = base::trim(pieces[i]);
      if (!parameter.starts_with("q=") && !parameter.starts_with("Q=")) continue;
      const std::string digits(parameter.substr(2));
      const double q = std::strtod(digits.c_str(), nullptr);
      quality = q >= 1 ? 1000 : q > 0 ? static_cast<int>(q * 1000) : 0;
    }
    best_rank = rank;
    best = quality;
  }
  return best;
}

/// webob's choice: the better of HTML and JSON, HTML where they are alike; plain text where neither is wanted, which is
/// also what a client without an Accept header gets.
Shape shape_for(const http::Exchange& exchange) {
  const std::string_view accept = exchange.header("Accept");
  const int html = wanted(accept, "text/html");
  const int json = wanted(accept, "application/json");
  if (html == 0 && json == 0) return Shape::plain;
  return html >= json ? Shape::html : Shape::json;
}

/// `template_body` is webob's body with its <br />.
http::Response shaped(unsigned status, const std::string& html_body, const std::string& plain_body,
                      const std::string& json_body, const http::Exchange& exchange,
                      const base::RequestContext& context) {
  const std::string line = fmt::format("{} {}", status, title_of(status));
  http::Response response{.status = status, .headers = {{"X-Openstack-Request-Id", context.request_id}}, .body = {}};
  const auto set = [&](std::string_view type, std::string body) {
    response.headers.emplace_back("Content-Type", type);
    response.body = std::move(body);
  };
  switch (shape_for(exchange)) {
    case Shape::html:
      set("text/html; charset=UTF-8",
          fmt::format(
              "<html>\n <head>\n  <title>{0}</title>\n </head>\n <body>\n  <h1>{0}</h1>\n  {1}\n </body>\n</html>",
              line, html_body));
      break;
    case Shape::json:
      set("application/json",
          python_json(Json{{"message", json_body}, {"code", line}, {"title", std::string(title_of(status))}}));
      break;
    case Shape::plain:
      set("text/plain; charset=UTF-8", line + "\n\n" + plain_body);
      break;
  }
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

/// Line breaks become blanks where webob strips its tags.
std::string flat(std::string_view text) {
  std::string line(text);
  std::erase(line, '\r');
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  return line;
}

/// webob escapes the apostrophe in hexadecimal.
std::string webob_escape(std::string_view text) {
  std::string safe = escape(text);
  constexpr std::string_view decimal = "&#39;";
  for (std::size_t at = 0; (at = safe.find(decimal, at)) != std::string::npos; ++at) {
    safe.replace(at, decimal.size(), "&#x27;");
  }
  return safe;
}

void write_json(const Json& json, std::string& out) {
  const auto list = [&](const auto& begin, const auto& end, const auto& item) {
    for (auto at = begin; at != end; ++at) {
      if (at != begin) out += ", ";
      item(at);
    }
  };
  if (json.is_object()) {
    out += '{';
    list(json.begin(), json.end(), [&](const auto& at) {
      write_json(Json(at.key()), out);
      out += ": ";
      write_json(at.value(), out);
    });
    out += '}';
  } else if (json.is_array()) {
    out += '[';
    list(json.begin(), json.end(), [&](const auto& at) { write_json(*at, out); });
    out += ']';
  } else {
    out += json.dump(-1, ' ', true, Json::error_handler_t::replace);
  }
}

}  // namespace

std::string python_json(const Json& json) {
  std::string out;
  write_json(json, out);
  return out;
}

base::RequestContext image_context(const http::Exchange& exchange) {
  base::RequestContext context;
  context.request_id = "req-" + base::new_uuid();
  const std::string_view given = exchange.header("X-Openstack-Request-Id");
  if (base::is_request_id(given)) context.global_request_id = given;
  context.auth_token = exchange.header("X-Auth-Token");
  context.service_token = exchange.header("X-Service-Token");
  return context;
}

http::Response glance_error(unsigned status, std::string_view explanation, const http::Exchange& exchange,
                            const base::RequestContext& context, std::string_view detail) {
  return shaped(status, fmt::format("{}<br /><br />\n{}\n\n", webob_escape(explanation), webob_escape(detail)),
                fmt::format("{}\n\n {}  ", flat(explanation), flat(detail)),
                fmt::format("{}<br /><br />\n{}\n\n", explanation, detail), exchange, context);
}

http::Response glance_error(const Error& error, const http::Exchange& exchange, const base::RequestContext& context) {
  // What we took back ourselves, because we are stopping, may be asked for again.
  const unsigned status = error.code == Errc::cancelled ? 503 : http_status(error.code);
  return glance_error(status, error.message, exchange, context);
}

http::Response glance_wrong_method(std::string_view allow, const http::Exchange& exchange,
                                   const base::RequestContext& context) {
  const std::string text = fmt::format("The method {} is not allowed for this resource. ", exchange.method());
  auto response =
      shaped(405, webob_escape(text) + "<br /><br />\n", text + "\n\n ", text + "<br /><br />\n", exchange, context);
  response.headers.emplace_back("Allow", allow);
  return response;
}

http::Response glance_unauthorized(const std::string& challenge, const http::Exchange& exchange,
                                   const base::RequestContext& context) {
  auto response = glance_error(401,
                               "This server could not verify that you are authorized to\r\n"
                               "access the document you requested.  Either you supplied the\r\n"
                               "wrong credentials (e.g., bad password), or your browser\r\n"
                               "does not understand how to supply the credentials required.\r\n",
                               exchange, context);
  if (!challenge.empty()) response.headers.emplace_back("WWW-Authenticate", challenge);
  return response;
}

http::Response glance_empty(unsigned status, const base::RequestContext& context) {
  return {.status = status,
          .headers = {{"Content-Type", "text/html; charset=UTF-8"}, {"X-Openstack-Request-Id", context.request_id}},
          .body = {}};
}

http::Response glance_json(const Json& body, const base::RequestContext& context) {
  return {.status = 200,
          .headers = {{"Content-Type", "application/json"}, {"X-Openstack-Request-Id", context.request_id}},
          .body = python_json(body)};
}

}  // namespace imagecache::api
