// The catalog in one SQLite file. Private to the room: others see catalog.hpp.
//
// Reads go to ReaderPool, changes to GroupWriter. What a change checks (does the id exist, is the state the expected
// one, does the quota allow it) it checks inside its own transaction, and nobody else writes meanwhile: there is no gap
// between looking and doing.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "catalog/catalog.hpp"
#include "catalog/group_writer.hpp"
#include "catalog/reader_pool.hpp"

namespace imagecache::catalog {

class SqliteCatalog final : public Catalog {
 public:
  static Result<std::unique_ptr<SqliteCatalog>> open(const std::string& path, QuotaDefaults defaults,
                                                     const base::Clock& clock, SqliteOptions options);

  Result<void> create_volume(const Volume& volume) override;
  Result<std::optional<Volume>> find_volume(const std::string& id) override;
  Result<std::vector<Volume>> list_volumes(const VolumeFilter& filter) override;
  Result<void> update_volume(const std::string& id, const VolumeUpdate& update) override;
  Result<void> resize_volume(const std::string& id, std::uint64_t new_size_gb) override;
  Result<void> retype_volume(const std::string& id, const std::string& new_type) override;
  Result<void> remove_volume(const std::string& id) override;
  Result<std::vector<Volume>> unfinished_volumes() override;
  Result<void> add_fence(const std::string& volume_id, base::WallTime at) override;
  Result<void> drop_fences_before(base::WallTime time) override;

  Result<void> create_image_volume(const ImageVolume& image_volume) override;
  Result<std::optional<ImageVolume>> find_image_volume(const std::string& backend, const std::string& content_key,
                                                       const std::string& pool) override;
  Result<std::optional<ImageVolume>> find_image_volume_by_id(const std::string& volume_id) override;
  Result<std::vector<ImageVolume>> list_image_volumes(const std::optional<std::string>& backend) override;
  Result<void> update_image_volume(const std::string& volume_id, const ImageVolumeUpdate& update) override;
  Result<void> record_uses(const std::vector<Use>& uses) override;
  Result<std::vector<ImageVolumeUse>> list_image_volume_uses() override;
  Result<void> record_seen(const std::string& volume_id, const std::string& image_id, base::WallTime at) override;
  Result<void> record_refusal(const Refusal& refusal) override;
  Result<std::vector<Refusal>> list_refusals() override;
  Result<ImageVolumeTotals> image_volume_totals(const std::string& backend) override;
  Result<std::optional<ImageVolume>> least_recently_used(const std::string& backend) override;

  Result<std::map<std::string, QuotaUsage>> quota(const std::string& project_id) override;
  Result<void> set_quota(const std::string& project_id, const std::map<std::string, std::int64_t>& limits) override;
  Result<void> reset_quota(const std::string& project_id) override;
  Result<std::map<std::string, std::int64_t>> quota_defaults() override;
  Result<std::map<std::string, std::int64_t>> quota_class(const std::string& name) override;
  Result<void> set_quota_class(const std::string& name, const std::map<std::string, std::int64_t>& limits) override;

  Result<void> create_volume_type(const VolumeType& type) override;
  Result<std::vector<VolumeType>> list_volume_types() override;
  Result<std::optional<VolumeType>> find_volume_type(const std::string& id_or_name) override;
  Result<void> update_volume_type(const VolumeType& type) override;
  Result<void> set_type_encryption(const std::string& id,
                                   const std::map<std::string, std::string>& encryption) override;
  Result<void> remove_volume_type(const std::string& id) override;
  Result<std::vector<std::string>> projects_of_type(const std::string& type_id) override;
  Result<std::vector<std::string>> types_of_project(const std::string& project_id) override;
  Result<void> add_type_access(const std::string& type_id, const std::string& project_id) override;
  Result<void> remove_type_access(const std::string& type_id, const std::string& project_id) override;

  Result<void> add_message(const Message& message) override;
  Result<std::optional<Message>> find_message(const std::string& id) override;
  Result<std::vector<Message>> list_messages(const std::optional<std::string>& project_id) override;
  Result<void> remove_message(const std::string& id) override;

  Result<std::map<std::string, ServiceState>> service_states() override;
  Result<void> set_service_state(const std::string& host, const ServiceState& state) override;

  /// For tests: what was run so far, and how many transactions it took.
  std::vector<std::string> statements() const;
  GroupWriter::Counts write_counts() const { return writer_.counts(); }

 private:
  SqliteCatalog(std::unique_ptr<Connection> writer, std::unique_ptr<Connection> log_keeper, QuotaDefaults defaults,
                const base::Clock& clock, const std::string& path, const SqliteOptions& options);

  const QuotaDefaults defaults_;
  const base::Clock& clock_;
  GroupWriter writer_;
  ReaderPool readers_;
};

}  // namespace imagecache::catalog
