// What the Block Storage API keeps beside volumes and quotas: attachments, messages, access to types, quota classes,
// what services were told.
#include "catalog_fixture.hpp"

namespace imagecache::catalog {
namespace {

class BlockStorage : public CatalogTest {
 protected:
  Message message(unsigned n, const std::string& project = "p") const {
    return {.id = id(n),
            .project_id = project,
            .resource_type = "VOLUME",
            .resource_id = id(7),
            .action_id = "001",
            .detail_id = "003",
            .text = "no room",
            .created_at = clock_.now() + std::chrono::seconds(n),
            .expires_at = clock_.now() + 1h};
  }
  std::vector<std::string> messages(const std::optional<std::string>& project) {
    std::vector<std::string> ids;
    for (const auto& found : catalog_->list_messages(project).value()) ids.push_back(found.id);
    return ids;
  }
};

TEST_F(BlockStorage, AnAttachmentComesAndGoesWithTheStatusAndSurvivesARestart) {
  auto made = volume(1);
  made.status = "attaching";
  made.source_volid = id(9);
  add(made);
  const Attachment attachment{.id = id(2),
                              .instance_id = id(3),
                              .host_name = "h",
                              .mountpoint = "/dev/vdb",
                              .mode = "ro",
                              .attached_at = clock_.now()};
  ASSERT_OK(catalog_->update_volume(id(1), {.from = {"attaching"}, .status = "in-use", .attach = attachment}));
  reopen();
  auto found = catalog_->find_volume(id(1)).value();
  EXPECT_EQ(found->status, "in-use");
  EXPECT_EQ(found->attachment, attachment);
  EXPECT_EQ(found->source_volid, id(9));
  // One that comes too late changes neither.
  EXPECT_EQ(code_of(catalog_->update_volume(id(1), {.from = {"attaching"}, .status = "x", .detach = true})),
            Errc::conflict);
  EXPECT_TRUE(catalog_->find_volume(id(1)).value()->attachment);
  ASSERT_OK(catalog_->update_volume(id(1), {.status = "available", .detach = true}));
  EXPECT_FALSE(catalog_->find_volume(id(1)).value()->attachment);
}

TEST_F(BlockStorage, ALateDetachDoesNotTakeTheNextAttachmentAway) {
  auto made = volume(1);
  made.status = "in-use";
  made.attachment = Attachment{.id = id(2)};
  add(made);
  const Catalog::VolumeUpdate detach_first{
      .from = {"in-use"}, .from_attachment = id(2), .status = "available", .detach = true};
  ASSERT_OK(catalog_->update_volume(id(1), detach_first));
  const Attachment second{.id = id(3)};
  ASSERT_OK(catalog_->update_volume(id(1), {.from_attachment = "", .status = "in-use", .attach = second}));
  EXPECT_EQ(code_of(catalog_->update_volume(id(1), detach_first)), Errc::conflict);
  EXPECT_EQ(
      code_of(catalog_->update_volume(id(1), {.from_attachment = "", .status = "in-use", .attach = made.attachment})),
      Errc::conflict);
  const auto found = catalog_->find_volume(id(1)).value();
  EXPECT_EQ(found->status, "in-use");
  EXPECT_EQ(found->attachment, second);
}

TEST_F(BlockStorage, AnotherTypeTakesTheQuotaAlong) {
  auto made = volume(1);
  made.status = "available";
  made.volume_type = "gold";
  made.size_gb = 3;
  add(made);
  ASSERT_OK(catalog_->create_volume_type({.id = "t2", .name = "iron"}));
  ASSERT_OK(catalog_->set_quota("p", {{"gigabytes_iron", 2}}));
  const auto refused = catalog_->retype_volume(id(1), "iron");
  EXPECT_EQ(code_of(refused), Errc::quota_exceeded);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("gigabytes_iron"));
  ASSERT_OK(catalog_->set_quota("p", {{"gigabytes_iron", 3}}));
  ASSERT_OK(catalog_->retype_volume(id(1), "iron"));
  EXPECT_EQ(quota("gigabytes_iron").in_use, 3U);
  EXPECT_EQ(quota("volumes_iron").in_use, 1U);
  EXPECT_EQ(quota("volumes").in_use, 1U);
  EXPECT_FALSE(catalog_->quota("p").value().contains("volumes_gold"));  // no row of that name is left
  EXPECT_EQ(code_of(catalog_->retype_volume(id(1), "iron")), Errc::conflict);
  ASSERT_OK(catalog_->update_volume(id(1), {.status = "error"}));
  EXPECT_EQ(code_of(catalog_->retype_volume(id(1), "gold")), Errc::conflict);
  EXPECT_EQ(code_of(catalog_->retype_volume(id(2), "gold")), Errc::not_found);
}

TEST_F(BlockStorage, TheDefaultClassIsEveryProjectsLimitWithoutOneOfItsOwn) {
  EXPECT_EQ(quota("volumes").limit, -1);
  ASSERT_OK(catalog_->set_quota_class("default", {{"volumes", 1}, {"gigabytes_gone", 4}}));
  ASSERT_OK(catalog_->set_quota_class("other", {{"volumes", 7}}));
  reopen();
  EXPECT_EQ(quota("volumes").limit, 1);
  EXPECT_EQ(catalog_->quota_defaults().value().at("volumes"), 1);
  EXPECT_EQ(catalog_->quota_class("other").value().at("volumes"), 7);
  add(volume(1));
  EXPECT_EQ(code_of(catalog_->create_volume(volume(2))), Errc::quota_exceeded);
  ASSERT_OK(catalog_->set_quota("p", {{"volumes", 2}}));
  EXPECT_OK(catalog_->create_volume(volume(2)));
  // A type that comes later has what was set for its name.
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gone"}));
  EXPECT_EQ(quota("gigabytes_gone").limit, 4);
  EXPECT_EQ(code_of(catalog_->set_quota_class("default", {{"volumes", 3}, {"apples", 1}})), Errc::invalid_argument);
  EXPECT_EQ(code_of(catalog_->set_quota_class("default", {{"volumes", -2}})), Errc::invalid_argument);
  EXPECT_EQ(catalog_->quota_defaults().value().at("volumes"), 1);
}

TEST_F(BlockStorage, AccessToATypeGoesWithTheType) {
  ASSERT_OK(catalog_->create_volume_type({.id = "t1", .name = "gold", .is_public = false}));
  EXPECT_EQ(code_of(catalog_->add_type_access("t9", "p")), Errc::not_found);
  ASSERT_OK(catalog_->add_type_access("t1", "p"));
  ASSERT_OK(catalog_->add_type_access("t1", "o"));
  EXPECT_EQ(code_of(catalog_->add_type_access("t1", "p")), Errc::already_exists);
  EXPECT_EQ(catalog_->projects_of_type("t1").value(), (std::vector<std::string>{"o", "p"}));
  EXPECT_EQ(catalog_->types_of_project("p").value(), std::vector<std::string>{"t1"});
  ASSERT_OK(catalog_->remove_type_access("t1", "o"));
  EXPECT_EQ(code_of(catalog_->remove_type_access("t1", "o")), Errc::not_found);
  ASSERT_OK(catalog_->remove_volume_type("t1"));
  EXPECT_TRUE(catalog_->types_of_project("p").value().empty());
}

TEST_F(BlockStorage, MessagesAreAProjectsUntilTheyExpire) {
  ASSERT_OK(catalog_->add_message(message(1)));
  ASSERT_OK(catalog_->add_message(message(2)));
  ASSERT_OK(catalog_->add_message(message(3, "other")));
  reopen();
  EXPECT_EQ(messages("p"), (std::vector{id(2), id(1)}));
  EXPECT_EQ(messages(std::nullopt), (std::vector{id(3), id(2), id(1)}));
  const auto found = catalog_->find_message(id(1)).value();
  EXPECT_EQ(found->text, "no room");
  EXPECT_EQ(found->resource_id, id(7));
  ASSERT_OK(catalog_->remove_message(id(1)));
  EXPECT_OK(catalog_->remove_message(id(1)));
  EXPECT_FALSE(catalog_->find_message(id(1)).value());
  clock_.advance(2h);
  ASSERT_OK(catalog_->add_message(message(4)));
  EXPECT_EQ(messages(std::nullopt), std::vector{id(4)});
}

TEST_F(BlockStorage, OneWhoFailsInALoopLosesHisOldestMessagesOnly) {
  ASSERT_OK(catalog_->add_message(message(0, "other")));
  for (unsigned n = 1; n <= max_messages_per_project + 2; ++n) ASSERT_OK(catalog_->add_message(message(n)));
  const auto left = messages("p");
  EXPECT_EQ(left.size(), max_messages_per_project);
  EXPECT_EQ(left.back(), id(3));
  EXPECT_EQ(messages("other").size(), 1U);
}

TEST_F(BlockStorage, WhatAServiceWasToldIsKnownAfterARestart) {
  ASSERT_OK(catalog_->set_service_state("h@fast", {.disabled = true, .disabled_reason = "disks"}));
  ASSERT_OK(catalog_->set_service_state("h@slow", {.frozen = true}));
  ASSERT_OK(catalog_->set_service_state("h@slow", {}));
  reopen();
  const auto states = catalog_->service_states().value();
  EXPECT_TRUE(states.at("h@fast").disabled);
  EXPECT_EQ(states.at("h@fast").disabled_reason, "disks");
  EXPECT_EQ(states.at("h@fast").updated_at, clock_.now());
  EXPECT_FALSE(states.at("h@slow").frozen);
}

}  // namespace
}  // namespace imagecache::catalog
