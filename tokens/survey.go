package tokens

import (
	"context"
	"slices"
	"time"
)

const (
	// surveyPart is the number of records that a survey reads before it pauses.
	surveyPart = 100

	// surveyPause is the length of a pause, as a multiple of the time that the last part
	// took. So a survey takes at most half a percent of a core. The time that a part waits
	// for Redis counts too, so that a survey of a slow Redis pauses for longer.
	surveyPause = 200

	// maxSurveyPause limits a pause.
	maxSurveyPause = 2 * time.Second

	// surveyEvery is the time between two surveys. Hints report most changes at once; a
	// survey finds changes whose hints were lost.
	surveyEvery = 15 * time.Second

	// surveySoon is the time for which hints are collected before the records are read.
	surveySoon = 100 * time.Millisecond
)

// Survey reads the records of all portals once, without pauses, to update the counts and the result
// of [Source.Overview]. The error means that Redis did not answer.
func (s *Source) Survey(ctx context.Context) error {
	return s.survey(ctx, 0)
}

// FollowAll keeps the counts and the result of [Source.Overview] up to date, in the background,
// until the source is closed. It reads records when hints report changes, and all records at
// intervals. The first survey has shorter pauses, so that the counts are soon complete.
func (s *Source) FollowAll() { s.loops.Go(s.followAll) }

func (s *Source) followAll() {
	multiple := time.Duration(1)
	for s.service.Err() == nil {
		if err := s.survey(s.service, multiple); err == nil {
			multiple = surveyPause
		}
		s.followChanges()
	}
}

// survey reads all records, surveyPart at a time. Between the parts it reads marked records. After
// each part it pauses, for multiple times as long as the part took.
func (s *Source) survey(ctx context.Context, multiple time.Duration) error {
	s.directory.begin()
	err := s.store.Scan(ctx, func(ids []string) error {
		for part := range slices.Chunk(ids, surveyPart) {
			began := time.Now()
			for _, some := range [][]string{part, s.directory.takeChanged(surveyPart)} {
				if err := s.inspect(ctx, some); err != nil {
					return err
				}
			}
			if err := s.sleep(min(multiple*time.Since(began), maxSurveyPause)); err != nil {
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

// inspect reads the records of the portals and updates the directory.
func (s *Source) inspect(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	records, err := s.store.LoadAll(ctx, ids)
	for _, r := range records {
		s.directory.updateLoaded(r)
	}
	return err
}

// followChanges reads the records that have changed, until the next survey begins.
func (s *Source) followChanges() {
	ctx, cancel := context.WithTimeout(s.service, surveyEvery)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.directory.wake:
		}
		_ = s.sleep(surveySoon)
		began := time.Now()
		changed := s.directory.takeChanged(surveyPart)
		if err := s.inspect(s.service, changed); err != nil {
			for _, id := range changed { // so that they are read again before the next survey
				s.directory.mark(id)
			}
			_ = s.sleep(maxSurveyPause)
		}
		if len(changed) == surveyPart {
			s.directory.wake.send()
		}
		_ = s.sleep(min(surveyPause*time.Since(began), maxSurveyPause))
	}
}

// sleep waits for d. It returns an error if the source is closed before.
func (s *Source) sleep(d time.Duration) error {
	select {
	case <-s.service.Done():
		return context.Cause(s.service)
	case <-time.After(d):
		return nil
	}
}
