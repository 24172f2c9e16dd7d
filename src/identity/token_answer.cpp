#include "identity/token_answer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::identity {
namespace {

using Json = nlohmann::json;

constexpr int max_depth = 32;  // a token's own is 4, and 6 with a catalog

const Json& member(const Json& object, const char* name) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(name);
  return found == object.end() ? nothing : *found;
}
std::string text(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

}  // namespace

std::optional<base::WallTime> parse_keystone_time(std::string_view t) {
  using namespace std::chrono;
  static constexpr std::string_view shape = "dddd-dd-ddTdd:dd:dd";
  if (t.size() < shape.size()) return std::nullopt;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const bool digit = t[i] >= '0' && t[i] <= '9';
    if (shape[i] == 'd' ? !digit : t[i] != shape[i]) return std::nullopt;
  }
  const auto number = [&](std::size_t from, std::size_t length) {
    return static_cast<unsigned>(base::parse_unsigned(t.substr(from, length)).value_or(0));
  };
  const year_month_day day(year(static_cast<int>(number(0, 4))), month(number(5, 2)), std::chrono::day(number(8, 2)));
  const unsigned hour = number(11, 2);
  const unsigned minute = number(14, 2);
  const unsigned second = number(17, 2);
  if (!day.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  auto rest = t.substr(shape.size());
  microseconds fraction{0};
  if (rest.starts_with('.')) {
    const auto end = std::min(rest.find_first_not_of("0123456789", 1), rest.size());
    if (end == 1) return std::nullopt;
    std::string digits(rest.substr(1, std::min<std::size_t>(end - 1, 6)));
    digits.resize(6, '0');
    fraction = microseconds(base::parse_unsigned(digits).value_or(0));
    rest = rest.substr(end);
  }
  if (!rest.empty() && rest != "Z" && rest != "+00:00") return std::nullopt;
  return base::WallTime(sys_days(day)) + hours(hour) + minutes(minute) + seconds(second) + fraction;
}

Result<TokenAnswer> parse_token_answer(const std::string& body) {
  bool too_deep = false;
  const auto keep = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > max_depth;
    return depth <= max_depth;
  };
  const Json json = Json::parse(body, keep, false);
  const Json& token = member(json, "token");
  if (too_deep || !token.is_object()) return fail(Errc::unavailable, "Keystone's answer is no token; is it Keystone?");
  TokenAnswer answer;
  const auto expires_at = parse_keystone_time(text(token, "expires_at"));
  if (!expires_at) return fail(Errc::unavailable, "Keystone's answer does not say when the token expires");
  answer.expires_at = *expires_at;
  answer.issued_at = parse_keystone_time(text(token, "issued_at"));
  const Json& user = member(token, "user");
  const Json& project = member(token, "project");
  answer.who.user_id = text(user, "id");
  answer.who.user_domain_id = text(member(user, "domain"), "id");
  answer.who.project_id = text(project, "id");
  answer.who.project_domain_id = text(member(project, "domain"), "id");
  if (const Json& all = member(member(token, "system"), "all"); all.is_boolean() && all.get<bool>()) {
    answer.who.system_scope = "all";
  }
  if (const Json& roles = member(token, "roles"); roles.is_array()) {
    for (const Json& role : roles) {
      if (auto name = text(role, "name"); !name.empty()) answer.who.roles.push_back(base::to_lower(name));
    }
  }
  answer.who.is_admin = std::ranges::find(answer.who.roles, "admin") != answer.who.roles.end();
  const Json& rules = member(member(token, "application_credential"), "access_rules");
  answer.bound_elsewhere = !rules.is_null() || !member(member(token, "bind"), "kerberos").is_null();
  if (answer.who.user_id.empty()) return fail(Errc::unavailable, "Keystone's answer does not say whose token it is");
  return answer;
}

}  // namespace imagecache::identity
