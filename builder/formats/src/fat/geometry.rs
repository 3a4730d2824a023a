//! Where things lie in a volume, as its boot sector says (fatgen103, Boot Sector and BPB).

/// Boot sector, FSInfo, their copies from sector 6 on, and room: what FAT32 volumes customarily set aside.
const RESERVED_32: u32 = 32;
/// The root directory of FAT16 has a fixed size; 512 entries are customary.
const ROOT_ENTRIES: u32 = 512;
/// Clusters of FAT32 and FAT16 volumes (FAT Type Determination). The specification advises to stay off the
/// boundaries by 16, since many drivers are off by some.
const FAT32_MIN: u32 = 65_525;
const FAT16_MIN: u32 = 4_085;
const MARGIN: u32 = 16;
/// The top four bits of a FAT32 entry are reserved, and 0x0FFFFFF7 marks a bad cluster.
const FAT32_MAX: u32 = 0x0fff_fff5;

/// Bits of an entry of the allocation table; this alone tells the kinds of FAT apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// FAT16: 4085 to 65524 clusters.
    Fat16,
    /// FAT32: 65525 clusters and more.
    Fat32,
}

/// Why no volume of this size is possible.
#[derive(Debug, thiserror::Error)]
pub enum GeometryError {
    /// Sector or cluster size.
    #[error("{what} of {value} is not possible in FAT: {wanted}")]
    BadSize {
        /// What was given.
        what: &'static str,
        /// How much.
        value: u64,
        /// What is possible.
        wanted: &'static str,
    },
    /// Too few clusters for FAT16.
    #[error(
        "{size} bytes are too small a volume: FAT16 on sectors of {sector_size} bytes begins at {minimum}"
    )]
    TooSmall {
        /// The size that was asked for, in bytes.
        size: u64,
        /// Bytes a sector.
        sector_size: u32,
        /// The smallest size, in bytes.
        minimum: u64,
    },
    /// Too many clusters or sectors.
    #[error("{size} bytes are too large a volume for FAT with clusters of {cluster_size} bytes")]
    TooLarge {
        /// The size that was asked for, in bytes.
        size: u64,
        /// Bytes a cluster.
        cluster_size: u32,
    },
}

/// Where things lie in a volume. Sectors and clusters are counted in units of `sector_size` bytes and
/// `sectors_per_cluster` sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Kind of FAT.
    pub width: Width,
    /// Bytes a sector: 512 to 4096, a power of two.
    pub sector_size: u32,
    /// A power of two, at most 128.
    pub sectors_per_cluster: u32,
    /// Sectors before the first allocation table.
    pub reserved: u32,
    /// Allocation tables.
    pub tables: u32,
    /// Sectors of one allocation table.
    pub table_sectors: u32,
    /// Entries of FAT16's root directory; 0 in FAT32.
    pub root_entries: u32,
    /// Sectors of the volume.
    pub sectors: u32,
    /// Clusters of the data area; the first one has number 2.
    pub clusters: u32,
}

impl Geometry {
    /// Plans a volume of `size` bytes, of which an incomplete last sector stays unused. Without
    /// `sectors_per_cluster`, FAT32 with clusters of 4 KiB (more above 8 GiB, less where that makes FAT32
    /// possible), else FAT16.
    pub(super) fn plan(
        size: u64,
        sector_size: u32,
        sectors_per_cluster: Option<u32>,
    ) -> Result<Self, GeometryError> {
        if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
            let wanted = "512, 1024, 2048 or 4096 bytes";
            return Err(GeometryError::BadSize { what: "a sector", value: sector_size.into(), wanted });
        }
        let sizes: Vec<u32> = match sectors_per_cluster {
            Some(count) if count.is_power_of_two() && count <= 128 && count * sector_size <= 65_536 => {
                vec![count]
            }
            Some(count) => {
                let wanted = "a power of two, at most 128 sectors and 64 KiB";
                return Err(GeometryError::BadSize { what: "a cluster", value: count.into(), wanted });
            }
            None => {
                // As the table of the specification and mkfs.vfat have it: 4 KiB up to 8 GiB, then more.
                let largest = (size >> 21).next_power_of_two().clamp(4096, 32_768);
                let largest = u32::try_from(largest).unwrap_or(32_768) / sector_size;
                std::iter::successors(Some(largest), |count| (*count > 1).then_some(count / 2)).collect()
            }
        };
        let cluster_size = sizes[0] * sector_size;
        let sectors = u32::try_from(size / u64::from(sector_size))
            .map_err(|_| GeometryError::TooLarge { size, cluster_size })?;
        let draft = Draft { sectors, sector_size, exact: sectors_per_cluster.is_some() };
        let fat32 = sizes.iter().find_map(|count| draft.fat32(*count));
        // The smallest clusters that FAT16 can count.
        let fat16 = || sizes.iter().rev().find_map(|count| draft.fat16(*count));
        fat32.or_else(fat16).ok_or_else(|| match draft.clusters(sizes[0], 0) > FAT32_MAX {
            true => GeometryError::TooLarge { size, cluster_size },
            false => GeometryError::TooSmall { size, sector_size, minimum: draft.minimum(&sizes) },
        })
    }

    /// Bytes a cluster.
    pub fn cluster_size(&self) -> u32 {
        self.sector_size * self.sectors_per_cluster
    }

    /// Offset (bytes) of an allocation table.
    pub(super) fn table_offset(&self, table: u32) -> u64 {
        (u64::from(self.reserved) + u64::from(table) * u64::from(self.table_sectors))
            * u64::from(self.sector_size)
    }

    /// Offset (bytes) of FAT16's root directory; of the data area in FAT32.
    pub(super) fn root_offset(&self) -> u64 {
        self.table_offset(self.tables)
    }

    /// Sectors of FAT16's root directory.
    pub(super) fn root_sectors(&self) -> u32 {
        (self.root_entries * 32).div_ceil(self.sector_size)
    }

    /// Offset (bytes) of a cluster of the data area.
    pub(super) fn cluster_offset(&self, cluster: u32) -> u64 {
        let data = self.root_offset() + u64::from(self.root_sectors()) * u64::from(self.sector_size);
        data + u64::from(cluster.saturating_sub(2)) * u64::from(self.cluster_size())
    }

    /// The kind of a volume of so many clusters; `None` is FAT12.
    pub(super) fn width_of(clusters: u32) -> Option<Width> {
        match clusters {
            FAT32_MIN.. => Some(Width::Fat32),
            FAT16_MIN.. => Some(Width::Fat16),
            _ => None,
        }
    }
}

/// A volume of which the size is known, but not the kind.
struct Draft {
    sectors: u32,
    sector_size: u32,
    /// The cluster size is the caller's: keep off the boundaries no more than needed.
    exact: bool,
}

impl Draft {
    /// An upper bound of the clusters, beside `overhead` sectors.
    fn clusters(&self, sectors_per_cluster: u32, overhead: u32) -> u32 {
        self.sectors.saturating_sub(overhead) / sectors_per_cluster
    }

    fn margin(&self) -> u32 {
        if self.exact { 0 } else { MARGIN }
    }

    fn fat32(&self, sectors_per_cluster: u32) -> Option<Geometry> {
        let most = self.clusters(sectors_per_cluster, RESERVED_32);
        let table_sectors =
            u32::try_from(((u64::from(most) + 2) * 4).div_ceil(u64::from(self.sector_size))).ok()?;
        let reserved = self.aligned(RESERVED_32, table_sectors.checked_mul(2)?);
        let geometry = self.geometry(Width::Fat32, sectors_per_cluster, (reserved, table_sectors, 0))?;
        (FAT32_MIN + self.margin()..=FAT32_MAX).contains(&geometry.clusters).then_some(geometry)
    }

    fn fat16(&self, sectors_per_cluster: u32) -> Option<Geometry> {
        let root = ROOT_ENTRIES * 32 / self.sector_size;
        let most = self.clusters(sectors_per_cluster, 1 + root).min(FAT32_MIN);
        let table_sectors = ((most + 2) * 2).div_ceil(self.sector_size);
        let reserved = self.aligned(1, table_sectors * 2 + root);
        let geometry =
            self.geometry(Width::Fat16, sectors_per_cluster, (reserved, table_sectors, ROOT_ENTRIES))?;
        (FAT16_MIN + self.margin()..FAT32_MIN - self.margin())
            .contains(&geometry.clusters)
            .then_some(geometry)
    }

    /// The smallest number of reserved sectors from `least` on that puts the data area at a multiple of 4 KiB.
    fn aligned(&self, least: u32, between: u32) -> u32 {
        let unit = 4096 / self.sector_size;
        (least + between % unit).next_multiple_of(unit) - between % unit
    }

    fn geometry(
        &self,
        width: Width,
        sectors_per_cluster: u32,
        (reserved, table_sectors, root_entries): (u32, u32, u32),
    ) -> Option<Geometry> {
        let (sectors, sector_size) = (self.sectors, self.sector_size);
        let root = root_entries * 32 / sector_size;
        let overhead = table_sectors.checked_mul(2)?.checked_add(reserved + root)?;
        let clusters = sectors.checked_sub(overhead)? / sectors_per_cluster;
        Some(Geometry {
            width,
            sector_size,
            sectors_per_cluster,
            reserved,
            tables: 2,
            table_sectors,
            root_entries,
            sectors,
            clusters,
        })
    }

    /// The smallest size in bytes, to the sector, that has room for FAT16's fewest clusters.
    fn minimum(&self, sizes: &[u32]) -> u64 {
        let count = sizes.iter().copied().min().unwrap_or(1);
        let data = (FAT16_MIN + self.margin()) * count;
        let fits = |sectors: &u32| Draft { sectors: *sectors, ..*self }.fat16(count).is_some();
        let sectors = (data..data + data / 2).find(fits).unwrap_or(data * 2);
        u64::from(sectors) * u64::from(self.sector_size)
    }
}
