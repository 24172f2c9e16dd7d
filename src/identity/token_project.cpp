#include "base/try.hpp"
#include "identity/keystone.hpp"
#include "identity/keystone_http.hpp"
#include "identity/token_answer.hpp"

namespace imagecache::identity {

Result<std::string> project_of_token(const KeystoneCredentials& where, const std::string& token) {
  KeystoneHttp http(where);
  IMAGECACHE_TRY(const auto answer, http.ask({.path = "/auth/tokens?nocatalog",
                                              .headers = {"X-Auth-Token: " + token, "X-Subject-Token: " + token},
                                              .body = std::nullopt}));
  if (answer.status == 401 || answer.status == 404) {
    return fail(Errc::unauthenticated, "Keystone at " + where.auth_url + " does not accept the token");
  }
  if (answer.status != 200) {
    return fail(Errc::unavailable, "Keystone at " + where.auth_url + " does not say what the token is of: status " +
                                       std::to_string(answer.status));
  }
  IMAGECACHE_TRY(auto parsed, parse_token_answer(answer.body));
  return std::move(parsed.who.project_id);
}

}  // namespace imagecache::identity
