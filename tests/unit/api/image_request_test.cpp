#include "api/image_request.hpp"

#include <gtest/gtest.h>

namespace imagecache::api {
namespace {

const std::string id = "b8a4849c-1537-4574-badd-90de38482b5a";

TEST(ImageRequest, AnyVersionOfOursIsTheSameResource) {
  for (const std::string prefix : {"/v2", "/v2.0", "/v2.3", "/v2.14", "/v2.18", "//v2"}) {
    const auto request = read_image_request(prefix + "/images/" + id + "/file?prefer=a", "*/*");
    EXPECT_EQ(image_id_of(request.path, "/file"), id) << prefix;
    EXPECT_FALSE(request.asks_versions) << prefix;
  }
}

TEST(ImageRequest, AVersionThatComesWithTheCacheIsHiddenFromTheOrigin) {
  EXPECT_EQ(read_image_request("/v2.16/images?limit=1", "").upstream_target, "/v2/images?limit=1");
  EXPECT_EQ(read_image_request("/v2.14", "").upstream_target, "/v2");
  EXPECT_EQ(read_image_request("/v2.15/images", "").upstream_target, "");
  EXPECT_EQ(read_image_request("/v2/images", "").upstream_target, "");
}

TEST(ImageRequest, TheVersionMayStandInAccept) {
  const auto asked = read_image_request("/images/" + id + "/file", "application/vnd.openstack.images-v2.16");
  EXPECT_EQ(image_id_of(asked.path, "/file"), id);
  EXPECT_EQ(asked.upstream_accept, "application/vnd.openstack.images-v2");
  const auto older = read_image_request("/images/" + id, "application/vnd.openstack.images-v2.7");
  EXPECT_EQ(image_id_of(older.path, ""), id);
  EXPECT_EQ(older.upstream_accept, "");
  EXPECT_TRUE(read_image_request("/images", "application/vnd.openstack.images-v9").asks_versions);
}

TEST(ImageRequest, WhatNamesNoVersionAsksForTheList) {
  for (const auto* target : {"/", "", "/versions", "/versions/x", "/v1/images", "/v3", "/favicon.ico"}) {
    EXPECT_TRUE(read_image_request(target, "*/*").asks_versions) << target;
  }
  for (const auto* target : {"/healthcheck", "/v2", "/v2/", "/v2.19/images", "/v2.07/images"}) {
    EXPECT_FALSE(read_image_request(target, "*/*").asks_versions) << target;
  }
  EXPECT_EQ(image_id_of(read_image_request("/v2.07/images/" + id + "/file", "").path, "/file"), "");
  EXPECT_EQ(image_id_of(read_image_request("/v2.19/images/" + id + "/file", "").path, "/file"), "");
}

TEST(ImageRequest, AnIdIsFoundHoweverItIsWritten) {
  EXPECT_EQ(image_id_in(read_image_request("/v2/images/B8A4849C-1537-4574-BADD-90DE38482B5A", "").path), id);
  EXPECT_EQ(image_id_in(read_image_request("/v2/%69mages/" + id + "/members/m", "").path), id);
  EXPECT_EQ(image_id_of("/v2/images/" + id + "/file", ""), "");
  EXPECT_EQ(image_id_of("/v2/images/" + id + "/file/", "/file"), "");
  EXPECT_EQ(image_id_in("/v2/images/detail"), "");
  EXPECT_EQ(image_id_in("/v2/images/"), "");
  EXPECT_EQ(image_id_in("/v2/images"), "");
}

TEST(IdentityHeaders, AreAllThatAFrontWouldSet) {
  const std::vector<http::Header> headers = {{"X-Auth-Token", "t"},      {"X-Service-Token", "s"},
                                             {"X-Roles", "admin"},       {"x-user-id", "u"},
                                             {"X_Project_Id", "p"},      {"X-Tenant", "p"},
                                             {"X-Identity-Status", "C"}, {"X-Service-Roles", "service"},
                                             {"X-Image-Meta-Name", "n"}, {"X-Openstack-Request-Id", "r"}};
  EXPECT_EQ(identity_headers(headers), (std::vector<std::string>{"X-Roles", "x-user-id", "X_Project_Id", "X-Tenant",
                                                                 "X-Identity-Status", "X-Service-Roles"}));
}

}  // namespace
}  // namespace imagecache::api
