#include "origin/glance_http.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.hpp"

namespace imagecache::origin {
namespace {

/// What Glance says in an error's JSON, or in its HTML page behind the heading: without tags, on one line.
std::string reason_in(std::string_view html) {
  const auto json = nlohmann::json::parse(html, nullptr, false);
  const bool has_message = json.is_object() && json.contains("message") && json["message"].is_string();
  const auto message = has_message ? json["message"].get<std::string>() : std::string();
  if (has_message) html = message;
  if (const auto heading = html.find("</h1>"); heading != std::string_view::npos) html.remove_prefix(heading);
  std::string text;
  bool tag = false;
  for (const char c : html) {
    if (c == '<') tag = true;
    const bool blank = tag || static_cast<unsigned char>(c) <= ' ';
    if (!blank && text.size() < 200) text += c;
    if (blank && !text.empty() && text.back() != ' ') text += ' ';
    if (c == '>') tag = false;
  }
  return std::string(base::trim(text));
}

}  // namespace

bool is_html(const HttpHead& head) {
  return base::to_lower(head.header("content-type")).starts_with("text/html");
}

HttpFailure failure_of(const HttpHead& head, std::string_view body) {
  const auto say = [&](Errc code, std::string_view what, Retry retry = Retry::no) {
    const std::string reason = reason_in(body);
    const auto wait = base::parse_unsigned(head.header("retry-after")).value_or(0);
    return HttpFailure{
        .error = {code, fmt::format("answered {} ({}){}{}", head.status, what, reason.empty() ? "" : ": ", reason)},
        .retry = retry,
        .retry_after = std::chrono::seconds(std::min<std::uint64_t>(wait, 3600))};
  };
  switch (head.status) {
    case 400:
      return say(Errc::invalid_argument, "bad request");
    case 401:
      return say(Errc::unauthenticated, "the token is not accepted");
    case 403:
      return say(Errc::forbidden, "not allowed");
    case 404:
    case 410:
      return say(Errc::not_found, "no such image for this caller");
    case 409:
      return say(Errc::conflict, "conflict");
    case 408:
    case 429:
      return say(Errc::unavailable, "try later", Retry::yes);
    case 502:
    case 503:
      return say(Errc::unavailable, "unavailable", Retry::yes);
    case 504:
      return say(Errc::timeout, "a gateway's deadline passed", Retry::yes);
    default:
      return say(Errc::unavailable, head.status >= 500 ? "server error" : "makes no sense here", Retry::other_url);
  }
}

Result<std::vector<std::string>> glance_headers(const base::RequestContext& context, std::string accept) {
  std::vector<std::string> headers = {"Accept: " + std::move(accept)};
  const auto bad = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  for (const auto& [name, token] :
       {std::pair("X-Auth-Token: ", &context.auth_token), std::pair("X-Service-Token: ", &context.service_token)}) {
    if (token->empty()) continue;
    if (std::ranges::any_of(*token, bad))
      return fail(Errc::unauthenticated, "the token has characters that no token has");
    headers.push_back(name + *token);
  }
  const auto& id = context.global_request_id.empty() ? context.request_id : context.global_request_id;
  if (base::is_request_id(id)) headers.push_back("X-OpenStack-Request-ID: " + id);
  return headers;
}

}  // namespace imagecache::origin
