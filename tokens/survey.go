package tokens

import (
	"context"
	"slices"
	"time"
)

const (
	// surveyPart is how many records are read before a survey pauses.
	surveyPart = 100

	// surveyPause is how much longer a survey pauses than it has read, so that
	// the reading takes at most half a percent of a core. It takes much less of a
	// Redis that is slow, because the time of waiting counts as that of reading.
	surveyPause = 200

	// surveyLongest bounds a pause.
	surveyLongest = 2 * time.Second

	// surveyEvery is the time between two surveys. Changes are followed by hints;
	// a survey finds what hints have missed.
	surveyEvery = 15 * time.Second

	// surveySoon is how long changes are gathered before their records are read.
	surveySoon = 100 * time.Millisecond
)

// Survey reads the record of each portal once, without pausing, for the counts
// and for [Source.Overview].
func (s *Source) Survey(ctx context.Context) error {
	return s.survey(ctx, func(time.Duration) error { return nil })
}

// FollowAll keeps the counts of all records, and what [Source.Overview] finds, up
// to date until the source is closed: changes by their hints, and all records
// again and again, in the background. The first survey pauses less, so that the
// counts are soon those of all.
func (s *Source) FollowAll() { s.loops.Go(s.followAll) }

func (s *Source) followAll() {
	pauses := 1
	for s.life.Err() == nil {
		err := s.survey(s.life, func(took time.Duration) error { return s.rest(min(time.Duration(pauses)*took, surveyLongest)) })
		if err == nil {
			pauses = surveyPause
		}
		s.followChanges(time.Now().Add(surveyEvery))
	}
}

// survey reads all records, and calls pause after each part with the time that
// the part took.
func (s *Source) survey(ctx context.Context, pause func(took time.Duration) error) error {
	s.directory.begin()
	err := s.store.Scan(ctx, func(ids []string) error {
		for part := range slices.Chunk(ids, surveyPart) {
			began := time.Now()
			for _, some := range [][]string{part, s.directory.takeChanged(surveyPart)} {
				if err := s.inspect(ctx, some); err != nil {
					return err
				}
			}
			if err := pause(time.Since(began)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.directory.end()
	}
	return err
}

// inspect reads records for the directory.
func (s *Source) inspect(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	records, err := s.store.LoadAll(ctx, ids)
	for _, r := range records {
		s.directory.noteLoaded(r)
	}
	return err
}

// followChanges reads the records that have changed, until the deadline.
func (s *Source) followChanges(deadline time.Time) {
	for left := time.Until(deadline); left > 0 && s.life.Err() == nil; left = time.Until(deadline) {
		timeout := time.NewTimer(left)
		select {
		case <-s.life.Done():
		case <-timeout.C:
		case <-s.directory.wake:
			_ = s.rest(surveySoon)
		}
		timeout.Stop()
		began := time.Now()
		changed := s.directory.takeChanged(surveyPart)
		if err := s.inspect(s.life, changed); err != nil {
			for _, id := range changed { // the next survey finds them, too
				s.directory.mark(id)
			}
			_ = s.rest(surveyLongest)
		}
		if len(changed) == surveyPart {
			s.directory.hurry()
		}
		_ = s.rest(min(surveyPause*time.Since(began), surveyLongest))
	}
}

// rest waits, unless the source ends.
func (s *Source) rest(d time.Duration) error {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	select {
	case <-s.life.Done():
		return context.Cause(s.life)
	case <-timeout.C:
		return nil
	}
}
