//! The journal: segments of frames, the truth of the store, written once and never changed but for what is to be
//! forgotten. `Files` reads and is shared by all threads; `Journal` is the one writer. Neither knows the index.
//!
//! A segment has its full size from the start (see `disk::preallocate`) and begins with 64 bytes: magic, format u32,
//! number u32, store id [16], zeros, crc32c of these 60 bytes. It is durable and listed in the manifest before its
//! first frame. One frame is written and synced at a time.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{
    Position,
    disk::{self, lock},
    entry::{self, Batch, Orders},
    error::{Damage, StoreError, io_error},
    frame::{self, Bad, HEAD_BYTES, Head},
    manifest::{Forgets, Listed, Manifest},
};

/// Where a segment's first frame starts.
pub(super) const SEGMENT_HEAD_BYTES: u32 = 64;
const MAGIC: &[u8; 8] = b"lotlinej";
/// Format of a segment.
const SEGMENT_FORMAT: u32 = 1;
/// Open files kept for reading; beyond it all are closed and opened again as needed, far below common limits.
const HANDLES_MAX: usize = 128;

/// The journal's files, for reading.
pub(super) struct Files {
    dir: PathBuf,
    pub(super) store: [u8; 16],
    seed: u32,
    manifest: RwLock<Manifest>,
    handles: Mutex<HashMap<u32, Arc<File>>>,
    /// Held for reading while a segment's bytes are read, and for writing while its file is replaced: nobody reads on in
    /// the old file.
    replaced: RwLock<()>,
    /// Held for reading by whoever needs all segments as they are together, a copy or an audit; taken for writing while
    /// something is forgotten in them.
    pub(super) still: RwLock<()>,
    /// Known damage, which walks from frame to frame step over.
    gaps: Mutex<Vec<(Position, Position)>>,
}

/// A frame's body as read back.
pub(super) struct Frame {
    pub(super) segment: u32,
    /// Offset of the body's first byte.
    pub(super) body_at: u32,
    pub(super) body: Vec<u8>,
    pub(super) next: Position,
}

/// What the segments hold from a place on, as found at opening.
#[derive(Default)]
pub(super) struct Survey {
    /// End of the last good frame.
    pub(super) end: Position,
    /// Frames from the place on.
    pub(super) frames: u64,
    /// Whether the place is one where a frame starts or the last one ends.
    pub(super) boundary: bool,
    /// Garbage after the last frame.
    pub(super) tail: Option<Bad>,
    pub(super) damage: Vec<Damage>,
}

impl Files {
    /// Opens the journal in `dir`, or makes an empty one.
    pub(super) fn open(dir: &Path, segment_bytes: u32) -> Result<Files, StoreError> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let path = dir.join("manifest");
        let loaded = Manifest::load(&path)?;
        let manifest = match &loaded {
            Some(manifest) => manifest.clone(),
            None => {
                let mut store = [0; 16];
                getrandom::fill(&mut store).map_err(|e| io_error("draw a random id for", dir)(io::Error::other(e.to_string())))?;
                Manifest { store, forgets: Forgets::Never, segments: vec![Listed { number: 1, end: None }] }
            }
        };
        let files = Files {
            dir: dir.to_owned(),
            store: manifest.store,
            seed: crc32c::crc32c(&manifest.store),
            manifest: RwLock::new(manifest.clone()),
            handles: Mutex::default(),
            replaced: RwLock::default(),
            still: RwLock::default(),
            gaps: Mutex::default(),
        };
        files.remove_leftovers(loaded.as_ref())?;
        if loaded.is_none() {
            files.make_segment(1, segment_bytes)?;
            manifest.save(&path)?;
        }
        Ok(files)
    }

    /// The first frame's place.
    pub(super) fn start(&self) -> Position {
        Position { segment: self.listed()[0].number, offset: SEGMENT_HEAD_BYTES }
    }

    /// All segments in order.
    pub(super) fn listed(&self) -> Vec<Listed> {
        self.manifest().segments
    }

    fn manifest(&self) -> Manifest {
        self.manifest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the manifest, on disk first.
    fn set_manifest(&self, manifest: Manifest) -> Result<(), StoreError> {
        manifest.save(&self.dir.join("manifest"))?;
        *self.manifest.write().unwrap_or_else(PoisonError::into_inner) = manifest;
        Ok(())
    }

    /// How far forgetting is.
    pub(super) fn forgets(&self) -> Forgets {
        self.manifest.read().unwrap_or_else(PoisonError::into_inner).forgets
    }

    /// The same place, moved from the end of a closed segment to the next one and over known damage.
    pub(super) fn advance(&self, mut at: Position) -> Position {
        let manifest = self.manifest.read().unwrap_or_else(PoisonError::into_inner);
        let (listed, gaps) = (&manifest.segments, lock(&self.gaps));
        loop {
            let gap = gaps.iter().find(|(from, _)| *from == at).map(|(_, until)| *until);
            let index = listed.binary_search_by_key(&at.segment, |l| l.number).ok();
            let next = index.filter(|i| listed[*i].end == Some(at.offset)).and_then(|i| listed.get(i + 1));
            at = match (gap, next) {
                (Some(until), _) => until,
                (None, Some(next)) => Position { segment: next.number, offset: SEGMENT_HEAD_BYTES },
                (None, None) => return at,
            };
        }
    }

    /// Reads and checks the frame at `at`.
    pub(super) fn frame(&self, at: Position) -> Result<Frame, StoreError> {
        let damaged = |until: usize| {
            let (segment, offset) = (at.segment, at.offset);
            let until = until as u32;
            StoreError::Damaged(vec![Damage { segment, offset, until, what: "not a commit".into(), records: vec![] }])
        };
        let head = self.bytes(at.segment, at.offset, HEAD_BYTES as u32)?;
        let head = Head::parse(&head, self.seed, at.segment, at.offset).ok_or_else(|| damaged(at.offset as usize + HEAD_BYTES))?;
        let until = at.offset as usize + head.frame_bytes();
        let body_at = at.offset + HEAD_BYTES as u32;
        let mut body = self.bytes(at.segment, body_at, (head.frame_bytes() - HEAD_BYTES) as u32)?;
        let len = head.body(&body).ok_or_else(|| damaged(until))?.len();
        body.truncate(len);
        Ok(Frame { segment: at.segment, body_at, body, next: Position { segment: at.segment, offset: until as u32 } })
    }

    /// Reads a piece of a segment.
    pub(super) fn bytes(&self, segment: u32, offset: u32, len: u32) -> Result<Vec<u8>, StoreError> {
        let path = self.path(segment);
        let _same = self.replaced.read().unwrap_or_else(PoisonError::into_inner);
        let file = self.handle(segment).map_err(io_error("open", &path))?;
        let mut bytes = vec![0; len as usize];
        disk::read_at(&file, &mut bytes, offset.into()).map_err(io_error("read", &path))?;
        Ok(bytes)
    }

    /// Reads every segment that has frames between `from` and `to` whole, checks all, and gives each of these frames
    /// to `each`, which may stop the walk by returning `false`. Returns what cannot be read.
    pub(super) fn walk(
        &self,
        from: Position,
        to: Position,
        mut each: impl FnMut(Position, Position, &[u8]) -> bool,
    ) -> Result<Vec<Damage>, StoreError> {
        let mut damage = Vec::new();
        for Listed { number, end } in self.listed() {
            if number < from.segment || number > to.segment {
                continue;
            }
            let limit = if number == to.segment { to.offset } else { end.unwrap_or(u32::MAX) };
            let start = if number == from.segment { from.offset } else { SEGMENT_HEAD_BYTES };
            let bytes = match self.load(number, &mut damage)? {
                Some(mut bytes) => {
                    bytes.truncate(limit as usize);
                    bytes
                }
                None => continue,
            };
            let mut going = true;
            let scanned = frame::scan(&bytes, self.seed, number, start, &mut |at, next, body| {
                let place = |offset| Position { segment: number, offset };
                going = going && each(place(at), place(next), body);
            });
            let whole = scanned.end >= limit.min(end.unwrap_or(limit));
            damage.extend(scanned.bad.into_iter().chain(scanned.tail.clone()).map(|bad| changed(number, bad)));
            if scanned.tail.is_none() && !whole {
                damage.push(missing(number, scanned.end, limit));
            }
            if !going {
                break;
            }
        }
        Ok(damage)
    }

    /// Reads everything from the segment of `from` on, for opening: the last segment's end is not known yet.
    /// `seen` is told the bytes done and to do.
    pub(super) fn survey(&self, from: Position, seen: &dyn Fn(u64, u64)) -> Result<Survey, StoreError> {
        let mut survey = Survey::default();
        let mut earlier = self.listed();
        // A place beyond the last segment comes from an index that is ahead; the caller sees it by the end.
        let segments = earlier.split_off(earlier.partition_point(|l| l.number < from.segment).min(earlier.len() - 1));
        // A segment before them that has gone is worth knowing now, not when somebody asks for a record.
        for Listed { number, end } in &earlier {
            let end = end.unwrap_or(SEGMENT_HEAD_BYTES);
            let len = fs::metadata(self.path(*number)).map_or(0, |m| m.len());
            if len < end.into() {
                survey.damage.push(missing(*number, (len as u32).max(SEGMENT_HEAD_BYTES), end));
            }
        }
        let size = |l: &Listed| u64::from(l.end.unwrap_or(0));
        let (mut done, total) = (0, segments.iter().map(size).sum());
        for listed in &segments {
            seen(done, total);
            done += size(listed);
            let number = listed.number;
            survey.end = Position { segment: number, offset: SEGMENT_HEAD_BYTES };
            survey.boundary |= survey.end == from;
            let Some(mut bytes) = self.load(number, &mut survey.damage)? else {
                survey.end.offset = listed.end.unwrap_or(SEGMENT_HEAD_BYTES);
                continue;
            };
            bytes.truncate(listed.end.map_or(usize::MAX, |end| end as usize));
            let scanned = frame::scan(&bytes, self.seed, number, SEGMENT_HEAD_BYTES, &mut |at, next, _| {
                survey.boundary |= number == from.segment && (at == from.offset || next == from.offset);
                survey.frames += u64::from((number, at) >= (from.segment, from.offset));
            });
            survey.damage.extend(scanned.bad.into_iter().map(|bad| changed(number, bad)));
            survey.end.offset = scanned.end;
            match (listed.end, scanned.tail) {
                (None, tail) => survey.tail = tail,
                (Some(_), Some(bad)) => survey.damage.push(changed(number, bad)),
                (Some(end), None) if scanned.end < end => survey.damage.push(missing(number, scanned.end, end)),
                (Some(_), None) => {}
            }
            survey.end.offset = listed.end.unwrap_or(scanned.end);
        }
        seen(total, total);
        Ok(survey)
    }

    /// Lets walks from frame to frame step over `damage`.
    pub(super) fn step_over(&self, damage: &[Damage]) {
        let place = |segment, offset| Position { segment, offset };
        let gaps = damage.iter().filter(|d| d.offset >= SEGMENT_HEAD_BYTES);
        lock(&self.gaps).extend(gaps.map(|d| (place(d.segment, d.offset), place(d.segment, d.until))));
    }

    /// Copies the segments up to their `end` and a manifest into `dest`, durable when done.
    pub(super) fn copy(&self, end: impl FnOnce() -> Position, dest: &Path, seen: &dyn Fn(u64, u64)) -> Result<u64, StoreError> {
        fs::create_dir_all(dest).map_err(io_error("create", dest))?;
        let _still = self.still.read().unwrap_or_else(PoisonError::into_inner);
        let end = end();
        let mut manifest = self.manifest();
        manifest.segments.retain(|l| l.number <= end.segment);
        if let Some(last) = manifest.segments.last_mut() {
            last.end = None;
        }
        let size = |l: &Listed| if l.number == end.segment { end.offset } else { l.end.unwrap_or(end.offset) };
        let (mut done, total) = (0, manifest.segments.iter().map(|l| u64::from(size(l))).sum());
        for listed in &manifest.segments {
            seen(done, total);
            step().map_err(io_error("write", dest))?;
            let (path, limit) = (dest.join(name(listed.number)), size(listed));
            let bytes = self.bytes(listed.number, 0, limit)?;
            let full = fs::metadata(self.path(listed.number)).map_or(0, |m| m.len()).max(limit.into());
            let write = || {
                let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
                disk::write_at(&file, &bytes, 0)?;
                file.set_len(if listed.end.is_some() { limit.into() } else { full })?;
                file.sync_all()
            };
            write().map_err(io_error("write", &path))?;
            done += u64::from(limit);
        }
        manifest.save(&dest.join("manifest"))?;
        seen(total, total);
        Ok(total)
    }

    /// The whole segment; a missing file or a wrong head is added to `damage`.
    fn load(&self, number: u32, damage: &mut Vec<Damage>) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(number);
        let _same = self.replaced.read().unwrap_or_else(PoisonError::into_inner);
        let end = self.listed().iter().find(|l| l.number == number).and_then(|l| l.end);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                damage.push(missing(number, SEGMENT_HEAD_BYTES, end.unwrap_or(SEGMENT_HEAD_BYTES + 1)));
                return Ok(None);
            }
            Err(e) => return Err(io_error("read", &path)(e)),
        };
        if let Some(what) = self.head_fault(number, &bytes)? {
            damage.push(Damage { segment: number, offset: 0, until: SEGMENT_HEAD_BYTES, what: what.into(), records: vec![] });
        }
        Ok(Some(bytes))
    }

    fn head_fault(&self, number: u32, bytes: &[u8]) -> Result<Option<&'static str>, StoreError> {
        let Some(head) = bytes.first_chunk::<64>() else { return Ok(Some("the file is shorter than its head")) };
        if crc32c::crc32c(&head[..60]).to_le_bytes() != head[60..] || head[..8] != *MAGIC {
            return Ok(Some("the segment's head is changed"));
        }
        let format = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        if format > SEGMENT_FORMAT {
            return Err(StoreError::Newer(format));
        }
        Ok((*head != self.head(number)).then_some("the segment belongs to another store or place"))
    }

    fn head(&self, number: u32) -> [u8; 64] {
        let mut head = [0; 64];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&SEGMENT_FORMAT.to_le_bytes());
        head[12..16].copy_from_slice(&number.to_le_bytes());
        head[16..32].copy_from_slice(&self.store);
        let sum = crc32c::crc32c(&head[..60]);
        head[60..].copy_from_slice(&sum.to_le_bytes());
        head
    }

    /// Makes a whole, durable, empty segment; nothing of it stays when that fails.
    fn make_segment(&self, number: u32, bytes: u32) -> Result<(), StoreError> {
        let path = self.path(number);
        let temp = path.with_extension("new");
        let make = || {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&temp)?;
            disk::preallocate(&file, bytes.into())?;
            disk::write_at(&file, &self.head(number), 0)?;
            file.sync_all()?;
            fs::rename(&temp, &path)?;
            disk::sync_dir(&self.dir)
        };
        make().map_err(|e| {
            let _ = fs::remove_file(&temp);
            disk_full(e, "create", &path, bytes)
        })
    }

    /// Removes segments made but not yet listed when the program ended. One that holds commits was listed once, so
    /// then the manifest is an old one and nothing is touched.
    fn remove_leftovers(&self, manifest: Option<&Manifest>) -> Result<(), StoreError> {
        let listed: HashSet<_> = manifest.iter().flat_map(|m| &m.segments).map(|l| name(l.number)).collect();
        for entry in fs::read_dir(&self.dir).map_err(io_error("list", &self.dir))?.flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let segment = name.ends_with(".seg") && !listed.contains(&name);
            if segment && fs::read(&path).map_err(io_error("read", &path))?.iter().skip(64).any(|b| *b != 0) {
                let what = format!("it does not name `{name}`, which holds commits");
                return Err(StoreError::Manifest { path: self.dir.join("manifest"), what });
            }
            if segment || name.ends_with(".new") {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Carries out the orders to forget that stand from segment `first` on in all segments before it, as often as it
    /// takes. Whether there were any.
    pub(super) fn carry_out(&self, first: u32) -> Result<bool, StoreError> {
        let (closed, ordering): (Vec<_>, Vec<_>) = self.listed().into_iter().partition(|l| l.number < first);
        let mut orders = Orders::new();
        for Listed { number, .. } in ordering {
            let path = self.path(number);
            // What a kill left written but not synced becomes an order now, so it must be durable first.
            let synced = || OpenOptions::new().read(true).write(true).open(&path)?.sync_data();
            synced().map_err(io_error("sync", &path))?;
            if let Some(bytes) = self.load(number, &mut Vec::new())? {
                frame::scan(&bytes, self.seed, number, SEGMENT_HEAD_BYTES, &mut |_, _, body| entry::orders(body, &mut orders));
            }
        }
        if !orders.is_empty() {
            closed.iter().try_for_each(|listed| self.blank(listed, &orders))?;
        }
        Ok(!orders.is_empty())
    }

    /// Says that all orders are carried out.
    pub(super) fn carried_out(&self) -> Result<(), StoreError> {
        step().map_err(io_error("replace", &self.dir.join("manifest")))?;
        self.set_manifest(Manifest { forgets: Forgets::Done, ..self.manifest() })
    }

    /// Replaces a closed segment by one without what is to be forgotten. Every frame keeps its place and its length, so no
    /// position changes; damaged stretches stay as they are. Killed anywhere there is the old file or the new one.
    fn blank(&self, listed: &Listed, orders: &Orders) -> Result<(), StoreError> {
        let Listed { number, end: Some(end) } = *listed else { return Ok(()) };
        let Some(mut bytes) = self.load(number, &mut Vec::new())? else { return Ok(()) };
        let path = self.path(number);
        if bytes.len() > end as usize {
            // Room that no frame will ever take: each forgetting closes a segment that may be nearly empty.
            bytes.truncate(end as usize);
            let shortened = || OpenOptions::new().write(true).open(&path)?.set_len(end.into());
            shortened().map_err(io_error("shorten", &path))?;
        }
        let mut blanked = Vec::new();
        frame::scan(&bytes, self.seed, number, SEGMENT_HEAD_BYTES, &mut |at, next, body| {
            let mut body = body.to_vec();
            if entry::blank(&mut body, orders) == Some(true) {
                blanked.push((at, next, body));
            }
        });
        if blanked.is_empty() {
            return Ok(());
        }
        for (at, next, body) in blanked {
            frame::rewrite(&mut bytes[at as usize..next as usize], &body, self.seed, number, at);
        }
        self.replace(number, &path, &bytes).map_err(|e| disk_full(e, "replace", &path, end))
    }

    fn replace(&self, number: u32, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temp = path.with_extension("new");
        step()?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&temp)?;
        disk::write_at(&file, &bytes[..bytes.len() / 2], 0)?;
        step()?;
        disk::write_at(&file, &bytes[bytes.len() / 2..], bytes.len() as u64 / 2)?;
        step()?;
        file.sync_all()?;
        drop(file);
        step()?;
        {
            let _alone = self.replaced.write().unwrap_or_else(PoisonError::into_inner);
            lock(&self.handles).remove(&number);
            fs::rename(&temp, path)?;
        }
        step()?;
        disk::sync_dir(&self.dir)
    }

    fn handle(&self, segment: u32) -> io::Result<Arc<File>> {
        let mut handles = lock(&self.handles);
        if let Some(file) = handles.get(&segment) {
            return Ok(file.clone());
        }
        if handles.len() >= HANDLES_MAX {
            handles.clear();
        }
        let file = Arc::new(File::open(self.path(segment))?);
        handles.insert(segment, file.clone());
        Ok(file)
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(name(segment))
    }
}

/// The writer.
pub(super) struct Journal {
    pub(super) files: Arc<Files>,
    file: File,
    /// Size of the segment in use, and of the ones to come.
    capacity: u64,
    segment_bytes: u32,
    /// Everything before it is durable.
    pub(super) end: Position,
    poisoned: Option<String>,
    /// The next write ends early, or the next sync fails.
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

/// Failures of a disk that tests put in.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    ShortWrite,
    Sync,
}

impl Journal {
    /// Goes on writing at `end`; a torn tail of `torn` bytes there is overwritten with zeros first, so that the next
    /// frame is not followed by its rest.
    pub(super) fn resume(files: Arc<Files>, end: Position, torn: u32, segment_bytes: u32) -> Result<Journal, StoreError> {
        let path = files.path(end.segment);
        let open = || {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            if torn > 0 {
                disk::write_at(&file, &vec![0; torn as usize], end.offset.into())?;
            }
            // What a kill left written but not synced counts as saved from now on, so it must be durable.
            file.sync_data()?;
            let capacity = file.metadata()?.len();
            // A segment put back from a backup has holes. A full disk is no reason not to open.
            let _ = disk::reserve(&file, capacity);
            Ok((file, capacity))
        };
        let (file, capacity) = open().map_err(io_error("open", &path))?;
        Ok(Journal {
            files,
            file,
            capacity,
            segment_bytes,
            end,
            poisoned: None,
            #[cfg(test)]
            fault: None,
        })
    }

    /// Writes and syncs one frame. Returns whether a new segment was begun for it.
    pub(super) fn append(&mut self, mut batch: Batch) -> Result<bool, StoreError> {
        if let Some(why) = &self.poisoned {
            return Err(StoreError::Poisoned(why.clone()));
        }
        if let Some(why) = batch.refused {
            return Err(StoreError::Refused(why));
        }
        let (bytes, max) = (frame::padded(batch.bytes.len()), (self.segment_bytes - SEGMENT_HEAD_BYTES) as usize);
        if bytes > max {
            return Err(StoreError::TooBig { bytes, max });
        }
        let full = u64::from(self.end.offset) + bytes as u64 > self.capacity;
        if full {
            self.next_segment(self.files.forgets())?;
        }
        let Position { segment, offset } = self.end;
        frame::finish(&mut batch.bytes, batch.entries, self.files.seed, segment, offset);
        // After a failure nobody knows what the disk holds, and a second sync may say yes without having written
        // (fsyncgate); a frame after garbage would turn a torn tail into damage. So: nothing more until reopened.
        self.write(&batch.bytes).map_err(|e| self.poison(&e.to_string()))?;
        self.end.offset += bytes as u32;
        Ok(full)
    }

    /// Syncs what is written; for the orderly end.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(io_error("sync", &self.files.path(self.end.segment)))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if self.fault == Some(Fault::ShortWrite) {
            disk::write_at(&self.file, &bytes[..bytes.len() / 2], self.end.offset.into())?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk::write_at(&self.file, bytes, self.end.offset.into())?;
        #[cfg(test)]
        if self.fault == Some(Fault::Sync) {
            return Err(io::Error::other("injected"));
        }
        self.file.sync_data()
    }

    /// Begins a segment for orders to forget. The manifest that lists it says so until they are carried out.
    pub(super) fn begin_forgetting(&mut self) -> Result<u32, StoreError> {
        if let Some(why) = &self.poisoned {
            return Err(StoreError::Poisoned(why.clone()));
        }
        let first = self.end.segment + 1;
        step().map_err(io_error("replace", &self.files.dir.join("manifest")))?;
        self.next_segment(Forgets::Pending(first))?;
        Ok(first)
    }

    fn next_segment(&mut self, forgets: Forgets) -> Result<(), StoreError> {
        let before = self.files.manifest();
        let mut segments = before.segments.clone();
        let number = self.end.segment + 1;
        self.files.make_segment(number, self.segment_bytes)?;
        let path = self.files.path(number);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error("open", &path))?;
        let manifest_path = self.files.dir.join("manifest");
        if let Some(last) = segments.last_mut() {
            last.end = Some(self.end.offset);
        }
        segments.push(Listed { number, end: None });
        if let Err(e) = self.files.set_manifest(Manifest { store: before.store, forgets, segments }) {
            let unchanged = matches!(Manifest::load(&manifest_path), Ok(Some(now)) if now == before);
            return match e {
                StoreError::Io { source, .. } if unchanged => Err(disk_full(source, "replace", &manifest_path, 4096)),
                e => Err(self.poison(&e.to_string())),
            };
        }
        (self.file, self.capacity) = (file, self.segment_bytes.into());
        self.end = Position { segment: number, offset: SEGMENT_HEAD_BYTES };
        Ok(())
    }

    fn poison(&mut self, why: &str) -> StoreError {
        tracing::error!(why, "the journal is closed for writing");
        self.poisoned = Some(why.to_owned());
        StoreError::Poisoned(why.to_owned())
    }
}

/// A step of forgetting or copying before which a program can be killed. Tests end it there.
pub(super) fn step() -> io::Result<()> {
    #[cfg(test)]
    if STEPS_LEFT.get().is_some_and(|left| {
        STEPS_LEFT.set(Some(left.saturating_sub(1)));
        left == 0
    }) {
        return Err(io::Error::other("injected stop"));
    }
    Ok(())
}

#[cfg(test)]
thread_local! {
    /// After so many steps on this thread none succeeds.
    pub(super) static STEPS_LEFT: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

fn name(segment: u32) -> String {
    format!("{segment:08}.seg")
}

fn disk_full(e: io::Error, doing: &'static str, path: &Path, bytes: u32) -> StoreError {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull { bytes: bytes.into(), path: path.to_owned() },
        _ => io_error(doing, path)(e),
    }
}

/// Damage where bytes are, but other ones.
pub(super) fn changed(segment: u32, bad: Bad) -> Damage {
    Damage { segment, offset: bad.at, until: bad.until, what: "changed".into(), records: bad.records }
}

/// Damage where no bytes are.
fn missing(segment: u32, offset: u32, until: u32) -> Damage {
    Damage { segment, offset, until, what: "missing".into(), records: vec![] }
}
