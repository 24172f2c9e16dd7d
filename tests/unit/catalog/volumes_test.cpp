#include "catalog_fixture.hpp"

namespace imagecache::catalog {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Update = Catalog::VolumeUpdate;
class Volumes : public CatalogTest {};

TEST_F(Volumes, EveryFieldComesBackAsItWasGiven) {
  Volume made{.id = id(1),
              .name = "volume-x",
              .project_id = "p",
              .user_id = "u",
              .display_name = "my \"disk\"",
              .display_description = "two\nlines",
              .backend = "fast",
              .host = "h@fast#pool",
              .volume_type = "gold",
              .status = "creating",
              .status_reason = "none yet",
              .size_gb = 7,
              .image_id = "i",
              .content_key = "sha512:ab",
              .source_volume_id = "s",
              .availability_zone = "nova",
              .bootable = true,
              .counts_quota = false,
              .metadata = {{"a", "1"}, {"ö", "\"q\""}},
              .image_metadata = {{"os_distro", "debian"}},
              .request_id = "req-1",
              .created_at = clock_.now() + 5s,
              .updated_at = clock_.now() + 6s};
  add(made);
  const auto found = catalog_->find_volume(id(1)).value();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->id, made.id);
  EXPECT_EQ(found->name, made.name);
  EXPECT_EQ(found->project_id, made.project_id);
  EXPECT_EQ(found->user_id, made.user_id);
  EXPECT_EQ(found->display_name, made.display_name);
  EXPECT_EQ(found->display_description, made.display_description);
  EXPECT_EQ(found->backend, made.backend);
  EXPECT_EQ(found->host, made.host);
  EXPECT_EQ(found->volume_type, made.volume_type);
  EXPECT_EQ(found->status, made.status);
  EXPECT_EQ(found->status_reason, made.status_reason);
  EXPECT_EQ(found->size_gb, made.size_gb);
  EXPECT_EQ(found->image_id, made.image_id);
  EXPECT_EQ(found->content_key, made.content_key);
  EXPECT_EQ(found->source_volume_id, made.source_volume_id);
  EXPECT_EQ(found->availability_zone, made.availability_zone);
  EXPECT_EQ(found->bootable, made.bootable);
  EXPECT_EQ(found->counts_quota, made.counts_quota);
  EXPECT_EQ(found->metadata, made.metadata);
  EXPECT_EQ(found->image_metadata, made.image_metadata);
  EXPECT_EQ(found->request_id, made.request_id);
  EXPECT_EQ(found->created_at, made.created_at);
  EXPECT_EQ(found->updated_at, made.updated_at);
}

TEST_F(Volumes, AbsenceIsNoError) {
  EXPECT_FALSE(catalog_->find_volume("nobody").value());
  EXPECT_OK(catalog_->remove_volume("nobody"));
}

TEST_F(Volumes, TheClockFillsInWhenItWasMade) {
  auto made = volume(1);
  made.created_at = {};
  add(made);
  EXPECT_EQ(catalog_->find_volume(id(1)).value()->created_at, clock_.now());
  EXPECT_EQ(catalog_->find_volume(id(1)).value()->updated_at, base::WallTime{});
}

TEST_F(Volumes, AKnownIdIsRefusedAndLeftAsItIs) {
  add(volume(1));
  auto again = volume(1);
  again.size_gb = 9;
  EXPECT_EQ(code_of(catalog_->create_volume(again)), Errc::already_exists);
  EXPECT_EQ(catalog_->find_volume(id(1)).value()->size_gb, 1U);
  EXPECT_EQ(quota("volumes").in_use, 1U);
  EXPECT_EQ(quota("gigabytes").in_use, 1U);
}

TEST_F(Volumes, UpdateWritesWhatIsGivenAndNothingElse) {
  auto made = volume(1);
  made.display_name = "name";
  made.metadata = {{"a", "1"}};
  add(made);
  clock_.advance(3s);
  ASSERT_OK(catalog_->update_volume(id(1), Update{.status = "available",
                                                  .source_volume_id = "base",
                                                  .bootable = true,
                                                  .image_metadata = {{{"image_id", "i"}}}}));
  const auto found = catalog_->find_volume(id(1)).value();
  EXPECT_EQ(found->status, "available");
  EXPECT_EQ(found->source_volume_id, "base");
  EXPECT_TRUE(found->bootable);
  EXPECT_EQ(found->image_metadata, (std::map<std::string, std::string>{{"image_id", "i"}}));
  EXPECT_EQ(found->display_name, "name");
  EXPECT_EQ(found->metadata, made.metadata);
  EXPECT_EQ(found->updated_at, clock_.now());
  ASSERT_OK(catalog_->update_volume(id(1), Update{.status_reason = "r",
                                                  .name = "",
                                                  .content_key = "k",
                                                  .display_name = "n",
                                                  .display_description = "d",
                                                  .bootable = false,
                                                  .metadata = {{{"b", "2"}}}}));
  const auto changed = catalog_->find_volume(id(1)).value();
  EXPECT_EQ(changed->status, "available");
  EXPECT_EQ(changed->name, "");
  EXPECT_EQ(changed->status_reason, "r");
  EXPECT_EQ(changed->content_key, "k");
  EXPECT_EQ(changed->display_name, "n");
  EXPECT_EQ(changed->display_description, "d");
  EXPECT_FALSE(changed->bootable);
  EXPECT_EQ(changed->metadata, (std::map<std::string, std::string>{{"b", "2"}}));
}

TEST_F(Volumes, UpdateComparesAndSwaps) {
  add(volume(1));
  const Update to_available{.from = {"creating", "downloading"}, .status = "available"};
  EXPECT_OK(catalog_->update_volume(id(1), to_available));
  const auto refused = catalog_->update_volume(id(1), to_available);
  EXPECT_EQ(code_of(refused), Errc::conflict);
  EXPECT_THAT(refused.error().message, HasSubstr("available"));
  EXPECT_EQ(code_of(catalog_->update_volume(id(2), to_available)), Errc::not_found);
  EXPECT_EQ(code_of(catalog_->update_volume(id(2), Update{.status = "error"})), Errc::not_found);
}

TEST_F(Volumes, PagesFollowTheMarkerWhileRowsComeAndGo) {
  for (unsigned n = 0; n < 5; ++n) add(volume(n));
  EXPECT_THAT(listed({.limit = 2}), ElementsAre(id(4), id(3)));
  add(volume(9));                             // newer than the marker: not on a later page
  ASSERT_OK(catalog_->remove_volume(id(4)));  // seen already
  EXPECT_THAT(listed({.marker = id(3), .limit = 2}), ElementsAre(id(2), id(1)));
  EXPECT_THAT(listed({.marker = id(1), .limit = 2}), ElementsAre(id(0)));
  EXPECT_THAT(listed({.marker = id(0), .limit = 2}), IsEmpty());
  EXPECT_THAT(listed({.limit = 0}), IsEmpty());
  EXPECT_EQ(code_of(catalog_->list_volumes({.marker = id(4)})), Errc::not_found);
}

TEST_F(Volumes, MadeAtTheSameInstantTheyComeById) {
  for (const unsigned n : {2U, 0U, 1U}) {
    auto made = volume(n);
    made.created_at = clock_.now();
    add(made);
  }
  EXPECT_THAT(listed({.limit = 2}), ElementsAre(id(2), id(1)));
  EXPECT_THAT(listed({.marker = id(1)}), ElementsAre(id(0)));
}

TEST_F(Volumes, FiltersWorkAloneAndTogether) {
  for (unsigned n = 0; n < 16; ++n) {
    auto made = volume(n);
    made.project_id = n & 1 ? "p" : "q";
    made.backend = n & 2 ? "fast" : "slow";
    made.status = n & 4 ? "available" : "error";
    made.display_name = n & 8 ? "disk" : "";
    add(made);
  }
  for (unsigned asked = 0; asked < 16; ++asked) {       // which filters are given
    for (unsigned wanted = 0; wanted < 16; ++wanted) {  // for which value
      VolumeFilter filter;
      if (asked & 1) filter.project_id = wanted & 1 ? "p" : "q";
      if (asked & 2) filter.backend = wanted & 2 ? "fast" : "slow";
      if (asked & 4) filter.status = wanted & 4 ? "available" : "error";
      if (asked & 8) filter.display_name = wanted & 8 ? "disk" : "";
      std::vector<std::string> expected;
      for (unsigned n = 16; n-- > 0;)
        if (((n ^ wanted) & asked) == 0) expected.push_back(id(n));
      EXPECT_EQ(listed(filter), expected) << asked << " " << wanted;
    }
  }
}

TEST_F(Volumes, AnotherProjectsVolumeIsNoMarker) {
  auto other = volume(1);
  other.project_id = "q";
  add(other);
  EXPECT_EQ(code_of(catalog_->list_volumes({.project_id = "p", .marker = id(1)})), Errc::not_found);
  EXPECT_THAT(listed({.project_id = "q", .marker = id(1)}), IsEmpty());
}

TEST_F(Volumes, UnfinishedAreThoseThatARunningProcessWouldLeave) {
  unsigned n = 0;
  for (const char* status : {"creating", "downloading", "available", "extending", "deleting", "error", "error_deleting",
                             "error_extending"}) {
    auto made = volume(n++);
    made.status = status;
    add(made);
  }
  std::vector<std::string> states;
  for (const auto& row : catalog_->unfinished_volumes().value()) states.push_back(row.status);
  EXPECT_THAT(states, ::testing::UnorderedElementsAre("creating", "downloading", "extending", "deleting"));
}

TEST_F(Volumes, AFenceShutsTheDoorOverARestartUntilItIsDropped) {
  ASSERT_OK(catalog_->add_fence(id(1), clock_.now() + 5s));
  ASSERT_OK(catalog_->add_fence(id(1), clock_.now()));  // the later time stays
  EXPECT_EQ(code_of(catalog_->create_volume(volume(1))), Errc::cancelled);
  reopen();
  EXPECT_EQ(code_of(catalog_->create_volume(volume(1))), Errc::cancelled);
  ASSERT_OK(catalog_->drop_fences_before(clock_.now() + 5s));
  EXPECT_EQ(code_of(catalog_->create_volume(volume(1))), Errc::cancelled);
  ASSERT_OK(catalog_->drop_fences_before(clock_.now() + 6s));
  EXPECT_OK(catalog_->create_volume(volume(1)));
}

TEST_F(Volumes, AFencedRowStaysAndTheFenceIsLookedAtFirst) {
  add(volume(1));
  ASSERT_OK(catalog_->add_fence(id(1), clock_.now()));
  EXPECT_TRUE(catalog_->find_volume(id(1)).value());
  EXPECT_EQ(code_of(catalog_->create_volume(volume(1))), Errc::cancelled);
}

}  // namespace
}  // namespace imagecache::catalog
