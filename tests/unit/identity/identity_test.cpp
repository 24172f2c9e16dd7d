#include "identity/identity.hpp"

#include <gtest/gtest.h>

namespace imagecache::identity {
namespace {

TEST(NoAuth, TheTokenNamesUserAndProject) {
  const auto noauth = make_noauth();
  const auto caller = noauth->authenticate({.auth_token = "alice:blue"}).value();
  EXPECT_EQ(caller.user_id, "alice");
  EXPECT_EQ(caller.project_id, "blue");
  EXPECT_TRUE(caller.is_admin);
  EXPECT_EQ(caller.roles, std::vector<std::string>{"admin"});
  EXPECT_EQ(noauth->authenticate({.auth_token = "bob"}).value().project_id, "bob");
  EXPECT_FALSE(caller.project_is_default);
  EXPECT_EQ(noauth->authenticate({}).value().project_id, "admin");
  EXPECT_TRUE(noauth->authenticate({.auth_token = "notused"}).value().project_is_default);
}

TEST(NoAuth, AWellFormedRequestIdIsTakenUpAndNoOther) {
  const auto noauth = make_noauth();
  const std::string id = "req-3a0f9c1e-7b7e-4b52-9f0c-0d9a5b7c1e11";
  const auto caller = noauth->authenticate({.auth_token = {}, .request_id = id}).value();
  EXPECT_EQ(caller.global_request_id, id);
  EXPECT_NE(caller.request_id, id);
  EXPECT_EQ(noauth->authenticate({.auth_token = {}, .request_id = "req-x\nforged"}).value().global_request_id, "");
}

TEST(Trusting, ReadsNothingFromATokenThatIsItsUsers) {
  const auto trusting = make_trusting();
  const auto caller = trusting->authenticate({.auth_token = "gAAAA:secret"}).value();
  EXPECT_TRUE(caller.is_admin);
  EXPECT_EQ(caller.auth_token, "gAAAA:secret") << "for the origin";
  EXPECT_EQ(caller.user_id, "");
  EXPECT_EQ(caller.project_id, "");
  EXPECT_FALSE(trusting->blocks());
}

TEST(Refusing, SaysWhy) {
  const auto refused = make_refusing("not yet")->authenticate({.auth_token = "a:b"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unauthenticated);
  EXPECT_EQ(refused.error().message, "not yet");
}

}  // namespace
}  // namespace imagecache::identity
