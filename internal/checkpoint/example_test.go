package checkpoint_test

import (
	"context"
	"errors"
	"fmt"

	"rotator/internal/checkpoint"
)

// Replace succeeds only for the current version of a record. After ErrConflict the
// caller reads the record again.
func ExampleStore() {
	ctx := context.Background()
	var store checkpoint.Store = checkpoint.NewMemory()

	first, err := store.Create(ctx, "jobs/example/note", []byte("page 1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := store.Replace(ctx, first, []byte("page 2")); err != nil {
		fmt.Println(err)
		return
	}
	_, err = store.Replace(ctx, first, []byte("page 1 again")) // first is no longer current
	fmt.Println("conflict:", errors.Is(err, checkpoint.ErrConflict))

	now, err := store.Fetch(ctx, "jobs/example/note")
	fmt.Println(string(now.Data), err)
	// Output:
	// conflict: true
	// page 2 <nil>
}
